"""`conserver retry` and `conserver empty`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from conserver.queue import calls, keys, script
from conserver.queue.calls import Move
from tests.command_line import Command
from tests.operators import Consumer, beat

FAR_MS = 3_600_000


def park(server: Any, uuid: str, **state: Any) -> None:
    """Parks an item of the list inbox for an hour, with that state."""
    consumer = Consumer(server)
    server.rpush("inbox", uuid)
    moves = [
        Move(item.token, item.epoch, orjson.dumps(state), item.revision, FAR_MS)
        for item in consumer.claim()
    ]
    script.run(server, calls.move("park", consumer.id, moves))


def refused(conserver: Command, code: int, *words: str) -> str:
    """What a command says that ends with this code."""
    done = conserver(*words)
    assert done.returncode == code, done
    return done.stderr.decode()


def due(server: Any) -> int:
    seconds, _ = server.time()
    return int(server.zcount(keys.parked("inbox"), 0, (seconds + 1) * 1000))


@pytest.fixture
def parked(server: Any) -> Any:
    """u-1 waits for another attempt, u-2 for a storage, u-3 for a rate."""
    park(server, "u-1", attempts=1, error="the CRM answered 500")
    park(server, "u-2", owed=["s3"])
    park(server, "u-3", slots=["link:a"])
    return server


def test_a_list_says_what_its_parked_items_wait_for(parked: Any, conserver: Command) -> None:
    lines = conserver("list", "inbox").stdout.decode().splitlines()
    said = {uuid: line for line in lines for uuid in ("u-1", "u-2", "u-3") if f" {uuid} " in line}
    assert "waits for another attempt; the CRM answered 500" in said["u-1"]
    assert "waits for storage s3; due in " in said["u-2"]
    assert said["u-3"].endswith("; waits for its rate")


def test_parked_items_are_tried_now(parked: Any, conserver: Command) -> None:
    counted = conserver("retry", "--list", "inbox", "--dry-run")
    assert counted.stdout.splitlines() == [b"2 items would be tried now"]
    assert b"1 wait for a place of a rate" in counted.stderr
    assert due(parked) == 0
    assert conserver.json("retry", "--error", "crm") == {
        "retried": 1,
        "matching": 1,
        "left_out": {},
        "dry_run": False,
    }
    assert conserver("retry", "u-2").stdout == b"1 item made due now\n"
    assert due(parked) == 2
    assert conserver.json("retry", "--all")["left_out"] == {"rate": 1}


def test_what_retry_refuses(parked: Any, conserver: Command) -> None:
    assert "or --all" in refused(conserver, 2, "retry")
    assert "its rate has no place before" in refused(conserver, 2, "retry", "--cause", "rate")
    assert "nothing of u-9 is parked" in refused(conserver, 1, "retry", "u-9")
    assert due(parked) == 0


def test_a_list_is_emptied(parked: Any, conserver: Command) -> None:
    parked.rpush("inbox", "u-4", "u-5")
    counted = conserver("empty", "inbox", "--dry-run")
    assert counted.stdout == b"5 items would be taken out\n"
    told = conserver("empty", "inbox", "--older", "2h")
    assert told.stdout == b"0 items taken out\n"
    assert b"2 stay: nobody knows since when they wait" in told.stderr
    assert conserver("empty", "inbox", "--place", "queued", "--limit", "1").stdout == (
        b"1 item taken out\n"
    )
    assert "nothing of u-4 waits" in refused(conserver, 1, "empty", "inbox", "--uuid", "u-4")
    assert conserver.json("empty", "inbox") == {
        "taken_out": 4,
        "matching": 4,
        "left_out": {},
        "dry_run": False,
    }
    assert (parked.llen("inbox"), parked.zcard(keys.parked("inbox"))) == (0, 0)


def test_what_empty_refuses(parked: Any, conserver: Command) -> None:
    refused(conserver, 2, "empty")
    assert "did you mean" in refused(conserver, 2, "empty", "inbox", "--place", "park")
    assert "there is no list other" in refused(conserver, 1, "empty", "other")
    assert parked.zcard(keys.parked("inbox")) == 3


def test_ps_shows_all_that_workers_hold(server: Any, conserver: Command) -> None:
    assert conserver("ps").stderr == b"no host is running\n"
    consumer = Consumer(server)
    beat(server, name="box", consumer=consumer.id)
    assert conserver("ps").stderr == b"no worker holds anything\n"
    server.rpush("inbox", "u-7", "u-8")
    consumer.claim()
    rows = conserver("ps", "--host", "box", "--worker", "1").stdout.decode().splitlines()[1:]
    assert [row.split()[:4] for row in rows] == [
        ["box", "1", "u-7", "inbox"],
        ["box", "1", "u-8", "inbox"],
    ]
    assert rows[0].endswith("at mark for 2 min")
    assert " ago 0 at mark" in " ".join(rows[0].split())
    assert [one["uuid"] for one in conserver.json("ps")] == ["u-7", "u-8"]
    assert "no such worker" in refused(conserver, 1, "ps", "--worker", "9")
