"""storage.sqlite: searching, sharing the file, and what a full disk or a lock does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from storage.contract import Stored
from storage.sqlite import Options, Storage
from tests import vcons
from tests.contract.places import document, one, opening

Open = Callable[..., Storage]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vcons.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Makes open storages on the test's file."""

    def make(**options: Any) -> Storage:
        given = {"path": path, **options}
        return Storage("sqlite", Options.model_validate(given))

    with opening(make) as opened:
        yield opened


def found(storage: Storage, text: str) -> list[str]:
    return [hit.uuid for hit in storage.search(text, 10).hits]


CALL = document(
    5,
    subject="Réclamation of a parcel",
    parties=[{"name": "Ada Berg", "tel": "+12025550111"}, {"mailto": "ben@example.com"}],
    dialog=[{"type": "text", "body": "see the attachment"}],
    analysis=[
        {"type": "transcript", "body": {"text": "where is my parcel, it was due on Monday"}},
        {"type": "summary", "body": "the customer is annoyed"},
    ],
    attachments=[{"purpose": "tags", "encoding": "json", "body": ["reason:delivery"]}],
)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("reclamation", "Réclamation"),  # of the subject
        ("monday", "monday"),  # of the transcript, as all below of another column
        ("my  parcel", "parcel"),
        ('"my parcel"', "my parcel"),
        ("berg", "Berg"),
        ("ben@example.com", "ben@example.com"),
        ("attachment", "attachment"),
        ("delivery", "delivery"),
        ("annoyed?", "annoyed"),
        ("ada parcel delivery", "parcel"),  # each in another one
    ],
)
def test_what_a_vcon_is_found_by(opened: Open, text: str, word: str) -> None:
    storage = opened()
    storage.save_many([document(subject="of something else"), CALL])
    [hit] = storage.search(text, 10).hits
    assert hit.uuid == CALL.uuid
    assert hit.subject == "Réclamation of a parcel"
    assert hit.created_at == CALL.data["created_at"]
    assert word.lower() in {hit.snippet[begin:end].lower() for begin, end in hit.marks}


def test_the_index_follows_the_document(opened: Open) -> None:
    storage = opened()
    one(storage, CALL)
    assert one(storage, document(6, CALL.uuid, subject="now a refund")) == Stored()
    assert found(storage, "parcel") == []
    assert found(storage, "refund") == [CALL.uuid]
    assert one(storage, CALL) == Stored(superseded=True)
    assert found(storage, "parcel") == []
    storage.delete(CALL.uuid)
    assert found(storage, "refund") == []


def test_the_grammar_of_the_index_is_no_matter_of_who_asks(opened: Open) -> None:
    storage = opened()
    one(storage, CALL)
    for text in ('"unbalanced', "subject:parcel", "NEAR(", "a OR", "NOT parcel", "-parcel *", "^x"):
        assert all(uuid == CALL.uuid for uuid in found(storage, text))
    assert found(storage, "party AND ada") == []


def test_other_tools_can_ask_for_members(opened: Open, path: Path) -> None:
    one(opened(), CALL)
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT json_extract(vcon, '$.parties[0].name') FROM vcons"
        assert connection.execute(query).fetchall() == [("Ada Berg",)]


def test_a_lock_held_too_long_is_raised_and_nothing_is_half_done(opened: Open, path: Path) -> None:
    storage = opened(timeout_s=0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            storage.save_many([document()])
        assert storage.get(CALL.uuid) is None
        other.execute("ROLLBACK")
    assert one(storage, CALL) == Stored()


def test_a_full_file_undoes_the_batch_and_passes(opened: Open) -> None:
    storage = opened(max_size_bytes=200_000)
    one(storage, CALL)
    batch = [document(said="x" * 50_000) for _ in range(10)]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        storage.save_many(batch)
    assert all(storage.get(given.uuid) is None for given in batch)
    assert storage.get(CALL.uuid) is not None
    assert opened().save_many(batch) == [Stored()] * 10


def test_a_file_that_is_no_database_is_told_at_open(opened: Open, path: Path) -> None:
    path.write_bytes(b"something else entirely, and long enough to be looked at" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        opened(timeout_s=0.1)


@pytest.mark.parametrize("name", vcons.TRANSCRIPTS)
def test_transcripts_of_every_maker_are_found(opened: Open, name: str) -> None:
    """text-3: native, as a string of JSON, and whatever the label says."""
    body = vcons.TRANSCRIPTS[name]([("Ann", "the zebra"), ("Ben", "ran away")])
    ways = [{"body": body}] if isinstance(body, str) else [
        {"body": body, "encoding": "json"},
        {"body": orjson.dumps(body).decode()},
        {"body": orjson.dumps(body).decode(), "encoding": "none"},
    ]  # fmt: skip
    with closing(opened()) as storage:
        for kind in ("transcript", "wtf_transcription"):
            for way in ways:
                analysis = [{"type": kind, "dialog": 0, "vendor": "v", **way}]
                given = document(analysis=analysis)
                assert isinstance(one(storage, given), Stored)
                assert found(storage, '"zebra ran"') == [given.uuid]
                storage.delete(given.uuid)


@pytest.mark.parametrize("label", [{}, {"encoding": "none"}, {"encoding": "json"}])
def test_tags_are_found_whatever_their_label(opened: Open, label: dict[str, str]) -> None:
    with closing(opened()) as storage:
        tags = {"type": "tags", "body": '["animal:zebra"]', **label}
        given = document(attachments=[tags])
        assert isinstance(one(storage, given), Stored)
        assert found(storage, "zebra") == [given.uuid]
