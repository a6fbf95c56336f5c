"""`conserver where` and `conserver list`: where an item is, and what is in a list."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from conserver.queue import keys
from tests.command_line import Command
from tests.operators import Consumer, beat


def test_where_of_each_place(conserver: Command, server: Any) -> None:
    server.rpush("inbox", "u-dead")
    consumer = Consumer(server)
    consumer.dead_letter(reason="failed", link="mark", error="no more luck")
    server.rpush("inbox", "u-parked")
    consumer.park()
    server.rpush("inbox", "u-7", "u-held")
    consumer.claim()
    beat(server, name="box-1")
    workers = orjson.loads(server.hget(keys.host("h1"), "workers"))
    workers[0]["consumer"] = consumer.id
    server.hset(keys.host("h1"), "workers", orjson.dumps(workers))
    server.rpush("inbox", "u-waits")

    said = {
        uuid: conserver("where", uuid).stdout.decode().splitlines()[1].split(maxsplit=2)
        for uuid in ("u-dead", "u-parked", "u-7", "u-held", "u-waits")
    }
    assert said["u-dead"][:2] == ["inbox", "dead"]
    assert "no more luck" in said["u-dead"][2]
    assert said["u-parked"][:2] == ["inbox", "parked"]
    assert said["u-parked"][2].startswith("due in ")
    assert said["u-7"] == ["inbox", "running", "at mark for 2 min, worker 1 of box-1"]
    assert said["u-held"] == ["inbox", "running", "held by worker 1 of box-1"]
    assert said["u-waits"] == ["inbox", "queued"]
    place = conserver.json("where", "u-7")["places"][0]
    assert (place["host"], place["worker"], place["link"]) == ("box-1", 1, "mark")


def test_where_of_what_has_ended_says_how(conserver: Command, server: Any) -> None:
    attempt = ["t", 1, "", "inbox", "main", "h1", "c1", 1_790_000_000_000, 0, False]
    event = ["filtered", "", 0, 5, "link sampler", True]
    server.zadd(keys.story("u-1"), {orjson.dumps([*attempt, [event]]): 1})
    said = conserver("where", "u-1").stdout.decode()
    assert "no item of it waits or runs; the last one, of inbox at 2026-09-21" in said
    assert "ended: filtered link sampler" in said


def test_where_of_what_nobody_knows(conserver: Command, server: Any) -> None:
    done = conserver("where", "u-1")
    assert done.returncode == 1
    assert b"`conserver get u-1`" in done.stderr


def test_a_list(conserver: Command, server: Any) -> None:
    consumer = Consumer(server)
    server.rpush("inbox", "u-parked")
    consumer.park()
    server.rpush("inbox", "u-7")
    consumer.claim()
    server.rpush("inbox", *[f"u-w{n}" for n in range(5)])
    done = conserver("list", "inbox", "--limit", "3")
    rows = [line.split() for line in done.stdout.decode().splitlines()[1:]]
    assert [row[:2] for row in rows] == [
        ["running", "u-7"],
        ["queued", "u-w0"],
        ["queued", "u-w1"],
        ["queued", "u-w2"],
        ["parked", "u-parked"],
    ]
    assert b"and 2 more: --limit 0 shows all" in done.stderr
    found = conserver.json("list", "inbox")
    assert (found["queued"], found["in_flight"], found["parked"]) == (5, 1, 1)
    assert [one["uuid"] for one in found["items"]["running"]] == ["u-7"]
    assert len(found["items"]["first"]) == 5


@pytest.mark.parametrize("limit", ["0", "20"])
def test_a_list_that_is_empty_and_one_that_nobody_knows(
    conserver: Command, server: Any, limit: str
) -> None:
    assert b"inbox is empty" in conserver("list", "inbox", "--limit", limit).stderr
    done = conserver("list", "inbux")
    assert done.returncode == 1
    assert b"there is no list inbux (did you mean `inbox`?)" in done.stderr


def test_where_of_a_vcon_that_was_cancelled(conserver: Command, server: Any) -> None:
    """It is nowhere, and whoever looks for it learns who has taken it out."""
    server.rpush("inbox", "u-gone")
    Consumer(server)
    conserver("cancel", "u-gone")
    done = conserver("where", "u-gone")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b" has cancelled 1 copy of it " in done.stdout
    assert conserver.json("where", "u-gone")["cancelled"]["action"] == "cancel"


def test_audit(conserver: Command, server: Any) -> None:
    """Who changed what, the newest first, without redis-cli."""
    assert conserver("audit").stderr == b"nobody has changed anything\n"
    conserver("pause", "calls", "chats", "--force")
    conserver("resume", "chats")
    rows = [line.split(maxsplit=5) for line in conserver("audit").stdout.decode().splitlines()]
    assert rows[0] == ["age", "who", "action", "count", "what"]
    assert [tuple(row[3:]) for row in rows[1:]] == [
        ("resume", "1", "lists chats"), ("pause", "2", "lists calls, chats"),
    ]  # fmt: skip
    assert [one["action"] for one in conserver.json("audit", "--action", "pause")] == ["pause"]
    assert len(conserver.json("audit", "--limit", "1")) == 1
