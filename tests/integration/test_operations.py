"""Commands print with --json what operations return, and nothing else."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.config.environment import Environment
from conserver.config.settings import Settings
from conserver.operations import (
    attention,
    audit,
    dead_letters,
    doctor,
    hosts,
    items,
    lists,
    overview,
)
from conserver.operations import settings as setting_list
from conserver.operations.dead_letters import Filter
from conserver.operations.hosts import Throughput
from conserver.plugins import reading
from conserver.queue import host_calls, keys, script
from tests.command_line import Command
from tests.operators import Consumer, beat

# What differs from look to look.
VARYING = {"at", "beat_age_s", "started_at", "due_in_s", "oldest_age_s", "text"}


def plain(value: object) -> Any:
    """The value as JSON has it, without what differs from look to look."""
    return _still(orjson.loads(orjson.dumps(value)))


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _still(part) for name, part in value.items() if name not in VARYING}
    return [_still(part) for part in value] if isinstance(value, list) else value


@pytest.fixture
def busy(server: Any) -> Any:
    """A Redis with a host, dead letters, parked and queued items, and a pause."""
    beat(server)
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2")
    consumer.dead_letter(reason="failed", link="mark", error="it broke", attempts=3)
    server.rpush("inbox", "u-3")
    consumer.park()
    server.rpush("inbox", "u-4", "u-4")
    server.hset(keys.CONTROL, keys.paused("inbox"), "1")
    return server


def test_status(busy: Any, conserver: Command) -> None:
    now = overview.overview(busy, ["inbox"], Throughput())
    wrong = [asdict(one) for one in attention.attention(now)]
    assert plain(asdict(now) | {"findings": wrong}) == plain(conserver.json("status"))


def test_health(busy: Any, conserver: Command) -> None:
    told = conserver.json("health")
    assert asdict(hosts.health(busy, told["host"])) == told


@pytest.mark.parametrize("ahead_s", [-3600, 3600])
def test_a_host_beats_whatever_its_own_clock_says(server: Any, ahead_s: int) -> None:
    told_ms = int((time.time() + ahead_s) * 1000)
    script.run(server, host_calls.beat("h1", f"{told_ms}.1", {"lease_s": "30"}))
    [host] = hosts.read(server)
    assert host.beats
    server.hset(keys.host("h1"), "beat_at_ms", int((time.time() - 60) * 1000))
    [host] = hosts.read(server)
    assert not host.beats


def test_doctor(busy: Any, conserver: Command, tmp_path: Path) -> None:
    source = str(tmp_path / "config.yml")
    found = doctor.examine(busy, reading.read(source, Environment({})), source)
    assert plain(asdict(found)) == plain(conserver.json("doctor"))


def test_dead_letters(busy: Any, conserver: Command) -> None:
    letters = dead_letters.listing(busy, Filter()).letters
    assert [dead_letters.summary(letter) for letter in letters] == conserver.json("dlq", "list")
    assert [asdict(kind) for kind in dead_letters.count(busy, Filter())] == conserver.json(
        "dlq", "list", "--count"
    )
    (letter,) = dead_letters.select(busy, Filter(uuids=("u-1",)))
    assert [dead_letters.details(letter)] == conserver.json("dlq", "show", "u-1")


def test_settings(conserver: Command) -> None:
    found = setting_list.listing(Settings(), {})
    assert [one.name for one in found] == [one["name"] for one in conserver.json("settings")]
    assert asdict(found[0]).keys() == conserver.json("settings")[0].keys()


@pytest.mark.parametrize(
    ("words", "operation"),
    [
        (["pause", "inbox"], lambda server: lists.pause(server, ["inbox"], actor="me")),
        (["resume"], lambda server: lists.resume(server, [], actor="me")),
        (["drain"], lambda server: list(lists.drain(server, [], timeout_s=0, actor="me"))[-1]),
        (["cancel", "u-4"], lambda server: items.cancel(server, "u-4", actor="me")),
    ],
)
def test_changes(busy: Any, conserver: Command, words: list[str], operation: Any) -> None:
    before = {key: busy.dump(key) for key in busy.scan_iter()}
    told = conserver.json(*words)
    busy.flushdb()
    for key, value in before.items():
        busy.restore(key, 0, value)
    assert asdict(operation(busy)) == told


def test_commands_say_who_runs_them(busy: Any, conserver: Command) -> None:
    """A user and a machine, for all that they change; not for what they only look at."""
    for words in (["status"], ["dlq", "list"], ["dlq", "requeue", "--all", "--dry-run"]):
        conserver(*words)
    assert audit.recent(busy) == []
    conserver("dlq", "requeue", "u-1", "--link", "mark")
    conserver("pause")
    paused, requeued = audit.recent(busy)
    assert (paused.action, paused.target) == ("pause", {"lists": ["inbox"]})
    assert requeued.target == {"uuids": ["u-1"], "where": "mark"}
    assert re.fullmatch(r".+@.+", paused.actor)
