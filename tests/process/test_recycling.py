"""Recycling leaves no gap in service.

Replacements start slowly here, because they are spawned. With a gap, no item that is pushed while
one starts would be done before it is ready.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.daemon import Daemon, push, vcon
from tests.helpers import LONG_S

# A replacement starts in half a second; whoever stands still for as long sees a gap.
pytestmark = pytest.mark.real_time

PUSH_EVERY_S = 0.03


class Traffic:
    """Pushes items one by one, and notes when each was pushed and when it arrived."""

    def __init__(self, redis_url: str, **members: Any) -> None:
        self._url = redis_url
        self._members = members
        self._enough = threading.Event()
        self._all_pushed = threading.Event()
        self.pushed_s: dict[str, float] = {}
        self.came_s: dict[str, float] = {}
        self.twice: list[str] = []

    @contextmanager
    def flowing(self) -> Iterator[Traffic]:
        """Push while the body runs, then wait until everything has arrived."""
        pusher, receiver = (
            threading.Thread(target=self._push),
            threading.Thread(target=self._receive),
        )
        pusher.start()
        receiver.start()
        try:
            yield self
        finally:
            self._enough.set()
            pusher.join(LONG_S)
            self._all_pushed.set()
            receiver.join(LONG_S)

    def _push(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            while not self._enough.wait(PUSH_EVERY_S):
                document = vcon(**self._members)
                self.pushed_s[document["uuid"]] = time.time()
                push(client, "in", [document])

    def _receive(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            patience_s = 20
            while not self._all_pushed.is_set() or len(self.came_s) < len(self.pushed_s):
                answer: Any = client.blpop(["out"], 1)
                if answer is None and self._all_pushed.is_set():
                    patience_s -= 1
                    if not patience_s:
                        return
                if answer is None:
                    continue
                uuid = answer[1].decode()
                if uuid in self.came_s:
                    self.twice.append(uuid)
                self.came_s[uuid] = time.time()

    def passed(self, since_s: float, until_s: float) -> int:
        """How many items were pushed and arrived between these two moments."""
        return sum(
            since_s <= self.pushed_s[uuid] and came_s <= until_s
            for uuid, came_s in self.came_s.items()
        )


def start(folder: Path, redis_url: str, **environment: str) -> Daemon:
    """A host with two workers and one link that does what each vCon says."""
    trouble = {"module": "tests.modules.trouble", "options": {"redis_url": redis_url}}
    main = {"links": ["trouble"], "ingress_lists": ["in"], "egress_lists": ["out"]}
    config = {"links": {"trouble": trouble}, "chains": {"main": main}}
    return Daemon(folder, redis_url, config, "spawn", 2, **environment)


def assert_no_gap(daemon: Daemon, traffic: Traffic, replaced: int) -> None:
    """Assert that every item arrived once, and that some did while each of the first replacements
    started. (A later one may have started when nothing was pushed any more.)
    """
    assert traffic.pushed_s.keys() == traffic.came_s.keys()
    assert not traffic.twice
    for line in daemon.events("child_ready")[3:][:replaced]:
        ready_s = datetime.fromisoformat(line["timestamp"]).timestamp()
        assert traffic.passed(ready_s - line["ready_ms"] / 1000, ready_s), line
    assert not daemon.events("child_died")
    assert daemon.stop() == 0


@pytest.mark.slow
def test_by_the_number_of_items(redis_url: str, tmp_path: Path) -> None:
    traffic, replaced = Traffic(redis_url), 4
    with start(tmp_path / "host", redis_url, CONSERVER_MAX_ITEMS_PER_WORKER="40") as daemon:
        with traffic.flowing():
            daemon.until(lambda: len(daemon.events("child_ready")) >= 3 + replaced, 90)
        spent = [line["spent"] for line in daemon.events("worker_recycled")]
        # The jitter is a tenth; a worker goes on while the other one's replacement starts.
        assert all(int(text.split()[0]) >= 36 for text in spent), spent
        assert_no_gap(daemon, traffic, replaced)


@pytest.mark.slow
def test_by_memory(redis_url: str, tmp_path: Path) -> None:
    traffic, replaced = Traffic(redis_url, subject="leak:2"), 2
    with start(tmp_path / "host", redis_url, CONSERVER_MAX_WORKER_MEMORY="140M") as daemon:
        with traffic.flowing():
            daemon.until(lambda: len(daemon.events("child_ready")) >= 3 + replaced, 90)
        assert all("MiB of memory" in line["spent"] for line in daemon.events("worker_recycled"))
        assert_no_gap(daemon, traffic, replaced)
