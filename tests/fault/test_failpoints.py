"""kill -9 at every named step of an item's way: each item still ends exactly once.

One host is killed at the step again and again; then it is stopped, and a healthy one takes over.
The items are of every kind, so that every step is passed: fresh ones, pushed whole, failing once,
asking for a retry, refused, filtered, slow, and one poison; some are held by a host that is dead.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from conserver.failpoints import STEPS
from conserver.queue import calls, script
from tests.daemon import Daemon, elements, push, vcon
from tests.fault.scene import nothing_left

# Nobody can wait for these: they come once a minute, or only when a list was dropped.
RARE = {f"{when}-{script}" for when in ("before", "after") for script in ("stray", "sweep")}
RARE |= {"before-unbell", "after-unbell"}
# These come seldom enough to kill every time; the others three times in ten.
SELDOM = ("reap", "release", "return", "promote", "begin")
ALWAYS = {f"{when}-{script}" for when in ("before", "after") for script in SELDOM}
ALWAYS |= {"at-death", "bell-moved"}
TRICKLE_S = 0.3
DEATHS_ENOUGH = 2
KILL_S_MAX = 12.0
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
    config = {
        "links": {"trouble": {"module": "tests.modules.trouble", **options}},
        "storages": {"cellar": {"module": "tests.modules.cellar", **options}},
        "chains": {
            "main": {
                "links": ["trouble"],
                "storages": ["cellar"],
                "ingress_lists": ["in"],
                "egress_lists": ["out"],
                "backoff_s": 0.05,
                "backoff_max_s": 0.2,
                "max_deliveries": 6,  # more than a host is killed here
            }
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
        self.added: list[str] = []
        self._client = client
        kinds: list[tuple[list[str], dict[str, str]]] = [
            (self.done, {}),
            (self.dead, {"subject": "reject"}),
            (self.done, {"subject": "retry"}),
        ]
        self._trickle = itertools.cycle(kinds)
        self._push(self.done, 5)
        _hold(client, "deadhost")
        for _ in range(3):
            self.added += self._push(self.done, 3, subject="add:mark")
            self._push(self.dead, 1, subject="reject")
            self._push([], 1, subject="filter")
            self._push(self.done, 1, subject="retry")
            self._push(self.done, 1, subject="fail:1")
            # What was claimed with this one and is behind it is released after a second.
            self._push(self.done, 1, subject="sleep:1.6")
            self._push(self.done, 6)
        self._push(self.dead, 1, subject="exit")
        whole = [vcon(subject="add:mark") for _ in range(4)]
        client.rpush("in", *[json.dumps(document) for document in whole])
        uuids = [document["uuid"] for document in whole]
        self.added += uuids
        self.done += uuids

    def push_one(self) -> None:
        """One more; they take turns, so that each step that an item can pass comes again."""
        where, members = next(self._trickle)
        self._push(where, 1, **members)

    def _push(self, where: list[str], count: int, **members: Any) -> list[str]:
        uuids = push(self._client, "in", [vcon(**members) for _ in range(count)])
        where += uuids
        return uuids

    def has_ended(self) -> bool:
        """Whether every item is where it belongs, once, and none is on its way."""
        client = self._client
        assert Counter(elements(client, "out")) == Counter(self.done)
        assert Counter(elements(client, "DLQ:in")) == Counter(self.dead)
        return nothing_left(client)

    def was_done_once(self) -> None:
        """What was stored holds the work of one run, as does what Redis has."""
        stored: Any = self._client.hgetall("cellar")
        assert {uuid.decode() for uuid in stored} == set(self.done)
        for uuid in self.added:
            texts: list[Any] = [stored[uuid.encode()], self._client.get(f"vcon:{uuid}")]
            for text in texts:
                marks = [a for a in orjson.loads(text)["analysis"] if a["type"] == "mark"]
                assert len(marks) == 1, f"{uuid} has {len(marks)} marks"


@pytest.mark.slow
@pytest.mark.parametrize("step", sorted(STEPS - RARE))
def test_killed_at(step: str, host: Callable[..., Daemon], client: redis.Redis) -> None:
    crowd = Crowd(client)
    chance = 1 if step in ALWAYS else 0.3
    doomed = host(CONSERVER_FAILPOINTS=f"{step}:kill:{chance}")
    _let_it_die(doomed, crowd)
    assert deaths(doomed), f"it never came to {step}"
    _stop(doomed)
    heir = host()
    heir.until(lambda: len(heir.events("child_ready")) >= 3, LONG_S)
    heir.until(crowd.has_ended, LONG_S)
    crowd.was_done_once()
    # It may have ended all items before the dead host's lease was over.
    heir.until(lambda: len(client.keys("conserver:host:*")) == 1, LONG_S)
    assert heir.stop() == 0
    assert not client.keys("conserver:host:*")


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


def _let_it_die(daemon: Daemon, crowd: Crowd) -> None:
    """Until it has died often enough; by chance it may never die that often."""
    pause = threading.Event()
    give_up_s = time.monotonic() + KILL_S_MAX
    while deaths(daemon) < DEATHS_ENOUGH and time.monotonic() < give_up_s:
        crowd.push_one()  # when all else is done a bell waits for it
        pause.wait(TRICKLE_S)


def _stop(daemon: Daemon) -> None:
    """End it as an operator would; it may be killed at the step while it ends."""
    assert daemon.process is not None
    if daemon.process.poll() is None:
        daemon.signal(signal.SIGTERM)
        daemon.wait(40)
    daemon.until(lambda: not daemon.everybody(), 15)


def _hold(client: redis.Redis, host: str) -> None:
    """Let a worker of a host claim what there is, and never be heard of again."""
    script.run(client, calls.register(host, "dead", ["in"]))
    demands = [calls.Demand("in", 256, 6)]
    script.run(client, calls.claim(host, "dead", 1, True, demands, calls.ClaimLimits()))
