"""scripts/chaos: a short run of it, and that its account would tell of a loss."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from chaosrun.account import Account, draw_up, on_their_way, settle
from chaosrun.mischief import Mischief
from chaosrun.places import PostgresPlace
from chaosrun.plan import OF_HOSTS, OF_REDIS, OF_STORAGES, OF_TRANSCRIBERS, draw
from chaosrun.run import Options, Producer, run
from chaosrun.town import Town
from chaosrun.work import config, items
from servers import Missing

from tests.clients import postgres_execute
from tests.conftest import absent

ITEMS = 300
# A seed whose plan has something of everything in it.
SEED, DISTURBANCES = 22032, 14
OF_EACH = {
    "kill worker", "kill coordinator", "kill supervisor", "kill stalled worker", "pause supervisor",
    "reload host", "cut before", "cut after", "restart redis", "pause redis", "fill redis",
    "cut storage after", "protect storage",
}  # fmt: skip


@pytest.mark.slow
def test_short_run(tmp_path: Path) -> None:
    """Two hosts, two storages, disturbances of all sorts: the same ones every time."""
    said: list[str] = []
    options = Options(
        items=ITEMS,
        disturbances=DISTURBANCES,
        seed=SEED,
        workers=1,
        storages=("postgres", "s3"),
        keep=tmp_path,
    )
    try:
        account = run(options, said.append)
    except Missing as error:
        absent(str(error))
    assert account["good"], "\n".join([*said, json.dumps(account)])
    assert account["items"] == ITEMS
    assert sum(account["disturbances"].values()) == DISTURBANCES
    assert set(account["disturbances"]) == OF_EACH


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not os.environ.get("CONSERVER_TEST_LONG"), reason="minutes; CONSERVER_TEST_LONG=1 runs it"
)
def test_calls_in_plenty_and_transcribers_that_die(tmp_path: Path) -> None:
    said: list[str] = []
    options = Options(
        items=300, disturbances=60, seed=21, storages=("postgres",), keep=tmp_path, speech=4000
    )
    try:
        account = run(options, said.append)
    except Missing as error:
        absent(str(error))
    sys.stdout.write(json.dumps(account) + "\n")
    assert account["good"], "\n".join([*said, json.dumps(account)])
    assert account["disturbances"]["kill transcriber"] > 3


def test_a_seed_is_a_plan() -> None:
    storages = ("postgres", "s3")
    plan = draw(200, 7, 2, 2, storages)
    assert plan == draw(200, 7, 2, 2, storages)
    assert plan[:50] == draw(50, 7, 2, 2, storages)
    assert plan != draw(200, 8, 2, 2, storages)
    assert list(items(500, 7)) == list(items(500, 7))
    assert len(list(items(500, 7))) == 500
    assert all(step.host < 2 and step.slot in (1, 2) for step in plan)


@pytest.mark.parametrize("kind", [*OF_HOSTS, *OF_REDIS, *OF_STORAGES, *OF_TRANSCRIBERS])
def test_every_disturbance_can_be_carried_out(kind: str) -> None:
    assert callable(getattr(Mischief, "_" + kind.replace(" ", "_")))


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[tuple[Town, Producer]]:
    """A run without disturbances, at its end."""
    try:
        with Town(tmp_path, [PostgresPlace(10)]) as town:
            host = town.host(config(town.storages()), method="fork")
            host.daemon.start()
            producer = Producer(town, Options(items=200, disturbances=0, seed=4))
            producer.finish()
            settle(town, lambda: None, lambda _: None)
            assert host.daemon.stop() == 0
            yield town, producer
    except Missing as error:
        absent(str(error))


def test_account_tells_of_everything_that_must_not_be(
    finished: tuple[Town, Producer],
) -> None:
    """What was lost, doubled or spoilt by hand is in the account, and nothing else is."""
    town, producer = finished
    with town.client() as client:
        assert not on_their_way(client)
        assert _account(town, producer).findings == []
        first, second, third = (uuid.decode() for uuid in client.lrange("out-a", 0, 2))
        letter = client.lpop(client.keys("DLQ:*")[0])
        client.lpop("out-a")
        client.rpush("out-a", second)
        _spoil(client, third)
        client.rpush("conserver:returned:in-b", "left over")
    postgres_execute(town.places["postgres"].server.url, f"DELETE FROM vcons WHERE id = '{first}'")
    account = _account(town, producer)
    told = "\n".join(account.findings)
    assert (account.lost, account.doubled, account.unstored, account.wrong) == (2, 1, 1, 1), told
    for word in (first, second, third, letter[:60].decode(), "conserver:returned:in-b"):
        assert word in told
    assert not account.good


def _account(town: Town, producer: Producer) -> Account:
    return draw_up(town, producer.ledger)


def _spoil(client: redis.Redis, uuid: str) -> None:
    """A mark is there twice."""
    document: dict[str, Any] = json.loads(client.get(f"vcon:{uuid}") or b"{}")
    document["analysis"].append(document["analysis"][0])
    client.set(f"vcon:{uuid}", json.dumps(document))
