"""storage.postgres on a real PostgreSQL: its table, its refusals, its troubles."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from storage.contract import Document, Outcome, Rejected, Storage, Stored, Unavailable
from storage.postgres import Options
from storage.postgres import Storage as PostgresStorage
from tests.contract.places import document, one, opening

Rows = list[dict[str, Any]]
Sql = Callable[..., Rows]


@pytest.fixture
def ask(postgres_url: str, postgres_table: str) -> Iterator[Sql]:
    """Runs a statement, in which {table} stands for the test's table."""
    with psycopg.connect(postgres_url, autocommit=True, row_factory=dict_row) as connection:

        def run(statement: str, *values: object) -> Rows:
            table = sql.Identifier(*postgres_table.split("."))
            query = sql.SQL(statement).format(table=table)
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def opened(postgres_url: str, postgres_table: str) -> Iterator[Callable[..., PostgresStorage]]:
    """Makes open storages on the test's table."""

    def make(**options: Any) -> PostgresStorage:
        given = {"url": postgres_url, "table_name": postgres_table, "timeout_s": 20, **options}
        return PostgresStorage("postgres", Options.model_validate(given))

    with opening(make) as opened:
        yield opened


def make_vcon_server_table(ask: Sql) -> None:
    """As peewee makes it for vcon-server."""
    ask(
        "CREATE TABLE {table} (id UUID NOT NULL PRIMARY KEY, vcon TEXT NOT NULL,"
        " uuid UUID NOT NULL, created_at TIMESTAMP NOT NULL, updated_at TIMESTAMP,"
        " subject TEXT, vcon_json JSONB)"
    )


def test_the_columns_are_those_of_vcon_server(ask: Sql, opened: Callable[..., Storage]) -> None:
    given = document(
        17, vcon="0.4.0", subject="Réclamation", created_at="2025-03-04T05:06:07+02:00"
    )
    before = datetime.now().astimezone().replace(microsecond=0)
    assert one(opened(), given) == Stored()
    (row,) = ask("SELECT *, updated_at AT TIME ZONE 'utc' AS updated FROM {table}")
    assert str(row["id"]) == str(row["uuid"]) == given.uuid
    assert row["vcon"] == "0.4.0"
    assert row["subject"] == "Réclamation"
    assert row["created_at"] == datetime(2025, 3, 4, 3, 6, 7)  # noqa: DTZ001 (the column has none)
    assert row["updated"] >= before
    assert row["vcon_json"] == given.data
    assert row["revision"] == 17


def test_a_table_of_vcon_server_is_taken_over(ask: Sql, opened: Callable[..., Storage]) -> None:
    make_vcon_server_table(ask)
    old = document(subject="of vcon-server")
    ask(
        "INSERT INTO {table} VALUES (%s, '0.0.1', %s, now(), now(), 'of vcon-server', %s)",
        old.uuid,
        old.uuid,
        old.body.decode(),
    )
    storage = opened()
    found = storage.get(old.uuid)
    assert found is not None
    assert json.loads(found) == old.data
    # A row without a revision is older than any, even the lowest.
    assert one(storage, document(0, old.uuid, subject="ours")) == Stored()
    (row,) = ask("SELECT subject, revision FROM {table}")
    assert row == {"subject": "ours", "revision": 0}
    # And vcon-server can still write its rows.
    other = str(uuid4())
    ask("INSERT INTO {table} VALUES (%s, '0.0.1', %s, now(), now(), NULL, '{{}}')", other, other)


def test_a_role_without_rights_to_change_the_table_can_write_it(
    ask: Sql, opened: Callable[..., Storage], postgres_url: str
) -> None:
    opened()
    role = f"writer_{uuid4().hex[:8]}"
    ask(f"CREATE ROLE {role} LOGIN")
    try:
        ask(f"GRANT SELECT, INSERT, UPDATE ON {{table}} TO {role}")
        account, at, rest = postgres_url.rpartition("@")
        url = f"{account.partition('//')[0]}//{role}{at}{rest}"
        storage = opened(url=url)
        storage.ready()
        assert one(storage, document()) == Stored()
        ask(f"REVOKE INSERT ON {{table}} FROM {role}")
        with pytest.raises(PermissionError, match="no right to write"):
            storage.ready()
        # Somebody will give the right back: nothing is refused for good.
        with pytest.raises(ConnectionError, match="permission denied"):
            storage.save_many([document()])
    finally:
        ask(f"REVOKE ALL ON {{table}} FROM {role}")
        ask(f"DROP ROLE {role}")


@pytest.mark.parametrize("name", ['odd "name"', "public.vcons_{}", "kept_{}.vcons"])
def test_any_table_name(
    postgres_url: str, opened: Callable[..., Storage], ask: Sql, name: str
) -> None:
    name = name.format(uuid4().hex[:8])
    schema = name.partition(".")[0] if name.startswith("kept") else ""
    if schema:
        ask(f"CREATE SCHEMA {schema}")
    storage = opened(table_name=name)
    storage.ready()
    given = document()
    assert one(storage, given) == Stored()
    assert storage.delete(given.uuid)


def test_a_batch_is_one_statement(ask: Sql, opened: Callable[..., Storage]) -> None:
    """Counted by a trigger that fires once per statement."""
    storage = opened()
    counter = f"statements_{uuid4().hex[:8]}"
    ask(f"CREATE SEQUENCE {counter}")
    ask(
        f"CREATE FUNCTION count_{counter}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM nextval('{counter}'); RETURN NULL; END $$"
    )
    ask(
        f"CREATE TRIGGER counted BEFORE INSERT ON {{table}}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION count_{counter}()"
    )
    outcomes = storage.save_many([document(number=number) for number in range(200)])
    assert outcomes == [Stored()] * 200
    assert ask(f"SELECT last_value FROM {counter}") == [{"last_value": 1}]


def test_a_refused_row_is_found_without_its_content_in_the_reason(
    ask: Sql, opened: Callable[..., Storage]
) -> None:
    storage = opened()
    ask("ALTER TABLE {table} ADD CONSTRAINT polite CHECK (subject <> 'rude')")
    batch = [document(subject="rude" if number == 23 else "kind") for number in range(64)]
    outcomes = storage.save_many(batch)
    refused = outcomes.pop(23)
    assert outcomes == [Stored()] * 63
    assert isinstance(refused, Rejected)
    assert "polite" in refused.reason
    assert "23514" in refused.reason
    assert batch[23].uuid not in refused.reason


def test_a_trigger_may_refuse(ask: Sql, opened: Callable[..., Storage]) -> None:
    storage = opened()
    name = f"refuse_{uuid4().hex[:8]}"
    ask(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.subject = 'rude' THEN RAISE EXCEPTION 'not in this house'; END IF;"
        " RETURN NEW; END $$"
    )
    ask(f"CREATE TRIGGER polite BEFORE INSERT ON {{table}} FOR EACH ROW EXECUTE FUNCTION {name}()")
    good, bad = storage.save_many([document(), document(subject="rude")])
    assert good == Stored()
    assert isinstance(bad, Rejected)
    assert "not in this house" in bad.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (rb'{"uuid":"%s","subject":"a\u0000b"}', "NUL"),
        (rb'{"uuid":"%s","a\\\u0000b":1}', "NUL"),
        (b'{"uuid":"%s","x":1e999999}', "22003"),
        (b'{"uuid":"%s","x":' + b"[" * 1000 + b"]" * 1000 + b"}", ""),
    ],
)
def test_what_jsonb_cannot_hold(opened: Callable[..., Storage], body: bytes, reason: str) -> None:
    uuid = str(uuid4())
    outcome, other = opened().save_many(
        [Document(uuid, body.replace(b"%s", uuid.encode()), 1, parsed={}), document()]
    )
    assert other == Stored()
    if reason:
        assert isinstance(outcome, Rejected)
        assert reason in outcome.reason


def test_an_escaped_backslash_before_u0000_is_no_nul(opened: Callable[..., Storage]) -> None:
    given = document(subject="C:\\u0000\\folder")
    assert b"\\u0000" in given.body
    storage = opened()
    assert one(storage, given) == Stored()
    found = storage.get(given.uuid)
    assert found is not None
    assert json.loads(found) == given.data


def test_a_uuid_in_two_spellings_in_one_batch(opened: Callable[..., Storage]) -> None:
    lower = document(2, subject="lower")
    upper = Document(lower.uuid.upper(), lower.body, 3)
    assert opened().save_many([upper, lower]) == [Stored(), Stored(superseded=True)]


def test_overlapping_batches_in_any_order_never_lose_a_document(
    opened: Callable[..., Storage],
) -> None:
    """The writer sorts its batches; others may not, and a deadlock must then pass."""
    uuids = [str(uuid4()) for _ in range(30)]
    together = threading.Barrier(3)

    def work(seed: int) -> list[Outcome]:
        chance = random.Random(seed)
        storage = opened()
        found: list[Outcome] = []
        together.wait(timeout=60)
        for revision in range(40):
            batch = [document(revision, uuid) for uuid in chance.sample(uuids, 20)]
            found += storage.save_many(batch)
        return found

    with ThreadPoolExecutor(3) as workers:
        outcomes = [outcome for found in workers.map(work, range(3)) for outcome in found]
    assert {type(outcome) for outcome in outcomes} <= {Stored, Unavailable}
    assert sum(isinstance(outcome, Stored) for outcome in outcomes) > len(outcomes) / 2


def test_a_lock_that_is_held_too_long_is_waited_for_no_longer_than_allowed(
    ask: Sql, opened: Callable[..., Storage], postgres_url: str, postgres_table: str
) -> None:
    storage = opened(timeout_s=3)
    held, free = sorted([document(1), document(1)], key=lambda given: given.uuid)
    assert one(storage, held) == Stored()
    with psycopg.connect(postgres_url) as other:
        other.execute(sql.SQL("SELECT 1 FROM {} FOR UPDATE").format(sql.Identifier(postgres_table)))
        newer = document(2, held.uuid)
        try:
            outcomes = storage.save_many([newer, free])
            assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        except TimeoutError:
            storage.open()
    assert storage.save_many([newer, free]) == [Stored(), Stored()]


def test_a_table_that_was_dropped_comes_back_by_opening_again(
    ask: Sql, opened: Callable[..., Storage]
) -> None:
    storage = opened()
    ask("DROP TABLE {table}")
    with pytest.raises(ConnectionError, match="does not exist"):
        storage.save_many([document(), document()])
    storage.open()
    assert one(storage, document()) == Stored()


def test_a_table_without_the_key_is_refused_at_open(
    ask: Sql, opened: Callable[..., Storage]
) -> None:
    ask("CREATE TABLE {table} (id uuid)")
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        opened()


def test_a_server_that_takes_no_writes_is_not_opened(
    opened: Callable[..., Storage], postgres_url: str
) -> None:
    opened()
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        opened(url=f"{postgres_url}?options=-c%20default_transaction_read_only%3Don")


def test_behind_a_pooler(ask: Sql, opened: Callable[..., Storage]) -> None:
    """Nothing is left in the session that another client of the same one could miss."""
    storage = opened(pooler=True)
    given = document(1)
    assert one(storage, given) == Stored()
    assert one(storage, document(0, given.uuid)) == Stored(superseded=True)
    assert storage.get(given.uuid) is not None


def test_separate_options_make_the_same_connection(
    opened: Callable[..., Storage], postgres_url: str
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres_url)
    storage = opened(
        url=None,
        host=parts["host"],
        port=parts["port"],
        database=parts["dbname"],
        user=parts["user"],
        password=parts.get("password", ""),
    )
    assert one(storage, document()) == Stored()


def test_the_password_is_not_shown() -> None:
    options = Options.model_validate({"password": "s3cret", "url": "postgresql://a:s3cret@b/c"})
    assert "s3cret" not in repr(options)


def test_large_values_are_compressed_the_quick_way(
    ask: Sql, opened: Callable[..., Storage]
) -> None:
    if not ask(
        "SELECT 1 FROM pg_settings"
        " WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
    ):
        pytest.skip("this PostgreSQL was built without lz4")
    given = document(notes=["the same words over and over"] * 1000)
    with closing(opened()) as storage:
        assert one(storage, given) == Stored()
    (row,) = ask("SELECT pg_column_compression(vcon_json) AS how FROM {table}")
    assert row == {"how": "lz4"}


def test_a_session_that_the_server_ends_while_idle_costs_nothing(
    opened: Callable[..., PostgresStorage], postgres_url: str
) -> None:
    """The server says goodbye in words, which the next call reads before it sees the end."""
    storage = opened()
    assert one(storage, document()) == Stored()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'conserver' AND datname = current_database()"
        ).fetchall()
    assert ended
    assert one(storage, document()) == Stored()
