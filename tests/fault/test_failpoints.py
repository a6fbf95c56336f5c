"""kill -9 at every named step of an item's way: each item still ends exactly once.

One host is killed at the step again and again; then it is stopped, and the next one takes over:
another that is killed, at a step of its own, or at last a healthy one. The items are of every kind,
so that every step is passed: fresh ones, pushed whole, failing once, asking for a retry, refused,
filtered, slow, checkpointed, on two chains at once, with a document that only the storage has, and
poisons; some are held by a host that is dead.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import redis

from conserver.process.failpoints import STEPS
from conserver.queue import calls, host_calls, keys, script
from tests.daemon import Daemon, elements, push, vcon
from tests.fault.scene import nothing_left
from tests.queues import record

# These come once a minute, and when a coordinator ends: they have tests of their own.
MINUTELY = {f"{when}-{script}" for when in ("before", "after") for script in ("stray", "sweep")}
ENDING = {"before-put_back", "after-put_back"}
# A transcriber's and a page reader's: tests of their own kill there.
ELSEWHERE = {"batch", "page"}
LONG = bool(os.environ.get("CONSERVER_TEST_LONG"))
# Who dies before one of these has done nothing yet; who dies behind it is killed in every run.
NOT_YET = (
    "register",
    "beat",
    "promote",
    "begin",
    "release",
    "park",
    "dead",
    "return",
    "reap",
    "fire",
)
BEFORE = {f"before-{script}" for script in NOT_YET}
# These come seldom enough to kill every time; registrations come six times, and twice at a start;
# the others are killed three times in ten.
SELDOM = ("reap", "release", "return", "promote", "begin", "look-up", "checkpoint")
ALWAYS = {f"{when}-{step}" for when in ("before", "after") for step in SELDOM}
ALWAYS |= {"at-death", "waiter-moved", "merged"}
STEPS_HERE = sorted(STEPS - MINUTELY - ENDING - ELSEWHERE - (set() if LONG else BEFORE))
# A healthy host costs as much as one that is killed: so many of these have one heir.
HOSTS = 3
GROUPS = [STEPS_HERE[start : start + HOSTS] for start in range(0, len(STEPS_HERE), HOSTS)]
CHANCES = dict.fromkeys(ALWAYS, 1.0) | {"before-register": 0.8, "after-register": 0.8}
TRICKLE_S = 0.3
DEATHS_ENOUGH = 2
KILL_S_MAX = 12.0
FIRST_KILL_S_MAX = 60.0
LONG_S = 90


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """An operator's connection."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def host(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Launches hosts, and leaves none behind."""
    options = {"options": {"redis_url": redis_url}}
    chain = {
        "links": ["trouble"],
        "storages": ["cellar"],
        "egress_lists": ["out"],
        "backoff_s": 0.05,
        "backoff_max_s": 0.2,
        "max_deliveries": 6 * HOSTS,  # more than hosts are killed here
    }
    config = {
        "links": {"trouble": {"module": "tests.modules.trouble", **options}},
        "storages": {"cellar": {"module": "tests.modules.cellar", **options}},
        "chains": {
            "main": chain | {"ingress_lists": ["in"]},
            "other": chain | {"ingress_lists": ["also"]},
            "poisoned": chain | {"ingress_lists": ["poison"], "max_deliveries": 3},
        },
        "schedules": {
            "clock": {"cron": "* * * * * *", "push": {"list": "ticks", "payloads": ["tick"]}}
        },
    }
    with ExitStack() as stack:

        def launch(**environment: str) -> Daemon:
            folder = tmp_path / f"host-{len(list(tmp_path.iterdir()))}"
            environment = {"CONSERVER_LEASE_S": "1"} | environment
            daemon = Daemon(folder, redis_url, config, "fork", 2, **environment)
            stack.callback(daemon.destroy)
            return daemon.launch()

        yield launch


class Crowd:
    """Items of every kind, and how each has to end."""

    def __init__(self, client: redis.Redis) -> None:
        self.done: list[str] = []
        self.dead: list[str] = []
        self.marks: dict[str, list[str]] = {}
        self.joined: list[str] = []
        self._client = client
        self._poisons = 0
        kinds: list[Callable[[], object]] = [
            lambda: self._push(self.done, 1),
            lambda: self._push(self.dead, 1, subject="reject"),
            lambda: self._push(self.done, 1, subject="retry"),
            self._push_twice,
            self._push_stored,
            lambda: self._push_marked("costly", 1, subject="checkpoint:/"),
        ]
        self._kinds = kinds
        self._trickle = itertools.cycle(kinds)

    def grow(self) -> None:
        """Some of every kind, so that every step comes soon; a dead host holds a part of them."""
        for push_one in self._kinds:
            push_one()
        self._poisons += 1
        _hold(self._client, f"deadhost{self._poisons}")
        self._push([], 1, "poison", subject="exit")
        for _ in range(3):
            self._push_marked("mark", 3, subject="add:mark")
            self._push(self.dead, 1, subject="reject")
            self._push([], 1, subject="filter")
            self._push(self.done, 1, subject="retry")
            self._push(self.done, 1, subject="fail:1")
            # What was claimed with this one and is behind it is released after a second.
            self._push(self.done, 1, subject="sleep:1.6")
            self._push(self.done, 6)
        whole = [vcon(subject="add:mark") for _ in range(4)]
        self._client.rpush("in", *[json.dumps(document) for document in whole])
        uuids = [document["uuid"] for document in whole]
        self.marks |= {uuid: ["mark"] for uuid in uuids}
        self.done += uuids

    def push_one(self) -> None:
        """One more; they take turns, so that each step that an item can pass comes again."""
        next(self._trickle)()

    def _push_twice(self) -> None:
        """Two chains are at work on one vCon at the same time, and leave a mark each."""
        document = vcon(subject="linger:0.3")
        uuid = document["uuid"]
        pipe = self._client.pipeline()
        pipe.set(f"vcon:{uuid}", orjson.dumps(document))
        for name in ("in", "also"):
            pipe.rpush(name, uuid)
        pipe.execute()
        self.done += [uuid, uuid]
        self.joined.append(uuid)

    def _push_stored(self) -> None:
        """Redis has lost its document."""
        document = vcon(subject="add:mark")
        uuid = document["uuid"]
        self._client.hset("cellar", uuid, orjson.dumps(document))
        self._client.rpush("in", uuid)
        self.done.append(uuid)
        self.marks[uuid] = ["mark"]

    def _push_marked(self, mark: str, count: int, **members: Any) -> None:
        """Their link leaves a mark, and must not leave it twice."""
        uuids = self._push(self.done, count, **members)
        self.marks |= {uuid: [mark] for uuid in uuids}

    def _push(self, where: list[str], count: int, name: str = "in", **members: Any) -> list[str]:
        uuids = push(self._client, name, [vcon(**members) for _ in range(count)])
        where += uuids
        return uuids

    def has_ended(self) -> bool:
        """Whether every item is where it belongs, once, and none is on its way."""
        client = self._client
        # The lists are asked for their lengths first, because they are asked many times.
        assert client.llen("out") == len(self.done)
        assert client.llen("DLQ:poison") == self._poisons
        assert Counter(elements(client, "out")) == Counter(self.done)
        assert Counter(elements(client, "DLQ:in")) == Counter(self.dead)
        assert not client.exists("DLQ:also")
        return nothing_left(client)

    def was_done_once(self) -> None:
        """What was stored holds the work of one run, as does what Redis has."""
        stored: Any = self._client.hgetall("cellar")
        assert {uuid.decode() for uuid in stored} == set(self.done)
        for uuid, marks in self.marks.items():
            texts: list[Any] = [stored[uuid.encode()], self._client.get(f"vcon:{uuid}")]
            for text in texts:
                assert marks_in(text) == marks, uuid
        for uuid in self.joined:
            # The cellar keeps whatever comes last, which may be the older of the two.
            joined: Any = self._client.get(f"vcon:{uuid}")
            assert sorted(marks_in(joined)) == ["main", "other"], uuid


def marks_in(text: bytes) -> list[str]:
    """What the runs of the link have left in a document."""
    return [analysis["type"] for analysis in orjson.loads(text)["analysis"]]


@pytest.mark.slow
@pytest.mark.timeout(2 * LONG_S + 600)
@pytest.mark.parametrize("steps", GROUPS, ids=" ".join)
def test_killed_at(steps: list[str], host: Callable[..., Daemon], client: redis.Redis) -> None:
    crowd = Crowd(client)
    for step in steps:
        crowd.grow()
        chance = CHANCES.get(step, 0.3)
        doomed = host(CONSERVER_FAILPOINTS=f"{step}:kill:{chance}")
        _let_it_die(doomed, crowd)
        assert deaths(doomed), f"it never came to {step}"
        _stop(doomed)
    heir = host()
    heir.until(partial(_is_ready, heir), LONG_S)
    heir.until(crowd.has_ended, LONG_S)
    crowd.was_done_once()
    # It may have ended all items before the dead host's lease was over.
    heir.until(lambda: len(client.keys("conserver:host:*")) == 1, LONG_S)
    assert heir.stop() == 0
    assert not client.keys("conserver:host:*"), heir.tail()


@pytest.mark.parametrize("step", sorted(ENDING))
def test_killed_at_the_end(step: str, host: Callable[..., Daemon], client: redis.Redis) -> None:
    """The coordinator dies while it puts back what its bells have moved and nobody has claimed."""
    client.hset(keys.CONTROL, "paused:in", "1")
    uuids = push(client, "conserver:returned:in", [vcon() for _ in range(3)])
    doomed = host(CONSERVER_FAILPOINTS=f"{step}:kill")
    doomed.until(partial(_is_ready, doomed))
    assert doomed.stop() == 0
    assert deaths(doomed), f"it never came to {step}"
    waiting = elements(client, "in") + elements(client, "conserver:returned:in")
    assert Counter(waiting) == Counter(uuids)
    heir = host()
    client.delete(keys.CONTROL)
    heir.until(lambda: Counter(elements(client, "out")) == Counter(uuids))
    heir.until(lambda: nothing_left(client))
    heir.until(lambda: len(client.keys("conserver:host:*")) == 1)
    assert heir.stop() == 0


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="takes 80 s: set CONSERVER_TEST_LONG=1")
def test_killed_at_what_comes_once_a_minute(
    host: Callable[..., Daemon], client: redis.Redis
) -> None:
    """Four hosts wait for it side by side, and each dies at a step of its own."""
    client.rpush("DLQ:in", "old")
    old: Any = {b'{"reason":"failed"}\n' + record("token-old", "old", "in"): 1}
    client.zadd("conserver:dead:in", old)
    doomed = [host(CONSERVER_FAILPOINTS=f"{step}:kill") for step in sorted(MINUTELY)]
    for daemon in doomed:
        daemon.until(partial(_is_ready, daemon))
    uuids = [uuid for consumer in _consumers(client) for uuid in _leave_a_stray(client, consumer)]
    for daemon in doomed:
        daemon.until(partial(deaths, daemon), LONG_S)
    for daemon in doomed:
        _stop(daemon)
    heir = host()
    heir.until(lambda: Counter(elements(client, "out")) == Counter(uuids))
    heir.until(lambda: nothing_left(client))
    assert not client.exists("conserver:dead:in"), "its reason was swept"
    assert elements(client, "DLQ:in") == ["old"]
    heir.until(lambda: len(client.keys("conserver:host:*")) == 1)
    assert heir.stop() == 0


def test_a_failpoint_that_does_not_exist_is_refused(host: Callable[..., Daemon]) -> None:
    for wrong in ("after-lunch:kill", "after-claim:sing", "after-claim:kill:often"):
        daemon = host(CONSERVER_FAILPOINTS=wrong)
        assert daemon.wait(20) == 78
        assert "CONSERVER_FAILPOINTS" in daemon.tail()


def deaths(daemon: Daemon) -> int:
    """How many of its processes have been killed by the failpoint."""
    killed = [line for line in daemon.events("child_died") if "signal 9" in str(line.get("reason"))]
    assert daemon.process is not None
    return len(killed) + (daemon.process.poll() == -signal.SIGKILL)


def _is_ready(daemon: Daemon) -> bool:
    """Whether all its children have come up."""
    return len(daemon.events("child_ready")) >= 3


def _let_it_die(daemon: Daemon, crowd: Crowd) -> None:
    """Until it has died often enough; by chance it may only die once, or do so late."""
    pause = threading.Event()
    began_s = time.monotonic()
    while (died := deaths(daemon)) < DEATHS_ENOUGH:
        if time.monotonic() - began_s > (KILL_S_MAX if died else FIRST_KILL_S_MAX):
            break
        crowd.push_one()  # when all else is done a bell waits for it
        pause.wait(TRICKLE_S)


def _stop(daemon: Daemon) -> None:
    """End it as an operator would; it may be killed at the step while it ends."""
    assert daemon.process is not None
    if daemon.process.poll() is None:
        daemon.signal(signal.SIGTERM)
        daemon.wait(40)
    daemon.until(lambda: not daemon.everybody())


def _consumers(client: redis.Redis) -> list[str]:
    """The workers of all hosts."""
    keys: Any = client.keys("conserver:host:*")
    names = [name.decode() for key in keys for name in cast("list[bytes]", client.hkeys(key))]
    return [name.removeprefix("consumer:") for name in names if name.startswith("consumer:")]


def _leave_a_stray(client: redis.Redis, consumer: str) -> list[str]:
    """Let Redis hold an item for a worker that knows nothing of it, as a failover can. Its uuid."""
    document = vcon()
    client.set(f"vcon:{document['uuid']}", orjson.dumps(document))
    token = f"stray-of-{consumer}"
    client.hset(keys.inflight(consumer), token, record(token, document["uuid"], "in"))
    return [document["uuid"]]


def _hold(client: redis.Redis, host: str) -> None:
    """Let a worker of a host claim what there is, and never be heard of again."""
    consumer = f"{host}-worker"
    script.run(client, host_calls.register(host, consumer, ["in"]))
    demands = [calls.Demand("in", 256)]
    script.run(client, calls.claim(host, consumer, 1, True, demands, calls.ClaimLimits()))
