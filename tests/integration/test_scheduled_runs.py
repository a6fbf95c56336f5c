"""The run of a schedule: what a query finds is pushed once, also where hosts give the run up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conserver.config.model import parse
from conserver.config.settings import Settings
from conserver.operations import scheduled
from conserver.operations.connection import redis_client
from conserver.operations.scheduled import Task
from conserver.queue import schedules
from conserver.queue.schedules import EXIT_GIVEN_UP
from storage.sqlite import Options, Storage
from tests.contract.places import document
from tests.queues import Queue, opened

NAME = "found"
FOUND = scheduled.PAGE + 1


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with opened(redis_url) as found:
        yield found


class Stopping(threading.Event):
    """Is set when it was asked for so many times."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


class Schedule:
    """A schedule that pushes what it finds in a database with FOUND vCons."""

    def __init__(
        self, queue: Queue, redis_url: str, path: Path, *, limit: int, action: str = "find"
    ) -> None:
        self._queue = queue
        self._passed_s = 0
        self._settings = Settings.model_validate({"redis_url": redis_url})
        find = {"storage": "db", "query": "1 = 1", "list": "out"}
        does = {**(find if action == "find" else {}), "limit": limit}
        written = {
            "storages": {"db": {"module": "storage.sqlite", "options": {"path": str(path)}}},
            "schedules": {NAME: {"cron": "0 2 * * *", action: does}},
        }
        self._config = parse(yaml.safe_dump(written), {})
        storage = Storage("db", Options.model_validate({"path": path}))
        storage.open()
        storage.save_many([document(1) for _ in range(FOUND)])
        storage.close()

    def fire(self) -> list[str]:
        """What a coordinator does that looks a second later than the one before."""
        seconds, _ = self._queue.client.time()
        self._passed_s += 1
        now_ms = 1000 * (int(seconds) + self._passed_s)
        call = schedules.fire(
            NAME,
            self._definition,
            now_ms,
            now_ms,
            catch_up_ms=1e9,
            host="any",
            lease_ms=30_000,
        )
        return [part.decode() for part in self._queue.run(call)]

    def carry_out(self, *, stopped: bool = False, steps: int = 0) -> int:
        """Take the run, or take it over, and do it; stopped: the host stops after so many steps."""
        _, run, cursor, *_ = self.fire()
        stopping = Stopping(steps) if stopped else threading.Event()
        task = Task(NAME, run, cursor, self._config, self._settings)
        with redis_client(self._settings) as client:
            return scheduled.carry_out(client, task, stopping)

    @property
    def result(self) -> object:
        """What is told of the last run."""
        found = self._queue.client.hgetall(f"conserver:schedule:{NAME}")
        return schedules.load(found, self._definition).last_result

    @property
    def _definition(self) -> str:
        return self._config.schedules[NAME].definition


@pytest.mark.parametrize("limit", [FOUND - 2, FOUND - 1, FOUND, FOUND + 1])
def test_a_run_that_is_given_up_after_each_page_pushes_each_find_once(
    queue: Queue, redis_url: str, tmp_path: Path, limit: int
) -> None:
    one = Schedule(queue, redis_url, tmp_path / "vcons.db", limit=limit)
    assert one.fire() == ["known"]
    for _ in range(5):
        assert one.carry_out(stopped=True) == EXIT_GIVEN_UP
    assert one.carry_out(stopped=False) == 0
    pushed = queue.waiting("out")
    assert len(pushed) == len(set(pushed)) == min(limit, FOUND)
    assert one.result == {"done": len(pushed)}


@pytest.mark.parametrize("action", ["requeue", "purge"])
def test_a_run_that_is_given_up_moves_no_more_letters_than_it_may(
    queue: Queue, redis_url: str, tmp_path: Path, action: str
) -> None:
    one = Schedule(queue, redis_url, tmp_path / "vcons.db", limit=8, action=action)
    queue.client.sadd("conserver:lists", "q")
    queue.push("DLQ:q", *(f"u{number}" for number in range(30)))
    assert one.fire() == ["known"]
    assert one.carry_out(stopped=True, steps=5) == EXIT_GIVEN_UP
    assert len(queue.dead("q")) == 25
    assert one.carry_out(stopped=True, steps=5) == 0
    assert len(queue.dead("q")) == 22
    assert one.result == {"done": 8}
