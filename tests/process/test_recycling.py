"""Recycling: workers that had their share make room, and nobody who pushes can tell.

Replacements are spawned here, so that their start takes long: an item that had to wait for one
would show it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.daemon import Daemon, push, vcon

PUSH_EVERY_S = 0.03


class Traffic:
    """Pushes one item after the other, and notes how long each takes to the egress list."""

    def __init__(self, redis_url: str, **members: Any) -> None:
        self._url = redis_url
        self._members = members
        self._enough = threading.Event()
        self.pushed_s: dict[str, float] = {}
        self.took_s: dict[str, float] = {}
        self.twice: list[str] = []

    @contextmanager
    def flowing(self) -> Iterator[Traffic]:
        """Push while the body runs; afterwards everything has arrived."""
        threads = [threading.Thread(target=run) for run in (self._push, self._receive)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._enough.set()
            for thread in threads:
                thread.join(30)

    def _push(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            while not self._enough.wait(PUSH_EVERY_S):
                document = vcon(**self._members)
                self.pushed_s[document["uuid"]] = time.monotonic()
                push(client, "in", [document])

    def _receive(self) -> None:
        with redis.Redis.from_url(self._url) as client:
            while not self._enough.is_set() or len(self.took_s) < len(self.pushed_s):
                answer: Any = client.blpop(["out"], 5)
                if answer is None:
                    return
                uuid = answer[1].decode()
                if uuid in self.took_s:
                    self.twice.append(uuid)
                self.took_s[uuid] = time.monotonic() - self.pushed_s[uuid]


def start(folder: Path, redis_url: str, **environment: str) -> Daemon:
    """Two workers, one link that does what each vCon says."""
    trouble = {"module": "tests.modules.trouble", "options": {"redis_url": redis_url}}
    main = {"links": ["trouble"], "ingress_lists": ["in"], "egress_lists": ["out"]}
    config = {"links": {"trouble": trouble}, "chains": {"main": main}}
    return Daemon(folder, redis_url, config, "spawn", 2, **environment)


def nobody_noticed(daemon: Daemon, traffic: Traffic) -> None:
    """Everything came out once, and sooner than any replacement could start."""
    assert traffic.pushed_s.keys() == traffic.took_s.keys()
    assert not traffic.twice
    starts_ms = [line["ready_ms"] for line in daemon.events("child_ready")][3:]
    assert max(traffic.took_s.values()) * 1000 < min(starts_ms)
    assert not daemon.events("child_died")
    assert daemon.stop() == 0


@pytest.mark.slow
def test_by_the_number_of_items(redis_url: str, tmp_path: Path) -> None:
    traffic = Traffic(redis_url)
    with start(tmp_path / "host", redis_url, CONSERVER_MAX_ITEMS_PER_WORKER="40") as daemon:
        with traffic.flowing():
            daemon.until(lambda: len(daemon.events("child_ready")) >= 3 + 4, 90)
        spent = [line["spent"] for line in daemon.events("worker_recycled")]
        # At most a tenth early; late only for want of the other worker's replacement.
        assert all(int(text.split()[0]) >= 36 for text in spent), spent
        nobody_noticed(daemon, traffic)


@pytest.mark.slow
def test_by_memory(redis_url: str, tmp_path: Path) -> None:
    traffic = Traffic(redis_url, subject="leak:2")
    with start(tmp_path / "host", redis_url, CONSERVER_MAX_WORKER_MEMORY="200M") as daemon:
        with traffic.flowing():
            daemon.until(lambda: len(daemon.events("child_ready")) >= 3 + 2, 90)
        assert all("MiB of memory" in line["spent"] for line in daemon.events("worker_recycled"))
        nobody_noticed(daemon, traffic)
