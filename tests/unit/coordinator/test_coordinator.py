"""The coordinator's decisions that need no Redis: who is dead, who is emptied, who is rung."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from conserver.coordinator.idle_workers import IdleWorkers
from conserver.coordinator.reaper import Watch
from conserver.coordinator.registry import blame_of
from conserver.coordinator.suspects import choose
from conserver.process import wakeup
from conserver.process.messages import pair
from conserver.process.shared_status import SharedStatus, State

Workers = tuple[IdleWorkers, list[socket.socket], list[SharedStatus]]


@pytest.fixture
def workers() -> Iterator[Workers]:
    """A roster of three slots, their workers' ends and pages."""
    lines = [pair() for _ in range(3)]
    statuses = [SharedStatus.create() for _ in range(3)]
    yield IdleWorkers([line[0] for line in lines], statuses), [line[1] for line in lines], statuses
    for status in statuses:
        status.close()
    for line in lines:
        for end in line:
            end.close()


def read(end: socket.socket) -> bytes:
    try:
        return end.recv(64)
    except BlockingIOError:
        return b""


# ---- who is dead


def looks(watch: Watch, beats: dict[str, str], start_s: float, stop_s: float) -> dict[str, str]:
    """Look every second, and give the last answer."""
    dead: dict[str, str] = {}
    for second in range(int(start_s), int(stop_s) + 1):
        dead = watch.look(beats, second, second + 0.01)
    return dead


def test_a_beat_must_stand_still_for_a_whole_lease() -> None:
    watch = Watch(lease_s=30, every_s=1)
    assert not looks(watch, {"a": "1", "b": "1"}, 0, 30)
    assert watch.look({"a": "1", "b": "2"}, 31, 31.01) == {"a": "1"}


def test_a_watch_that_was_restarted_begins_anew() -> None:
    watch = Watch(lease_s=30, every_s=1)
    looks(watch, {"a": "1"}, 0, 29)
    watch.restart()
    assert not looks(watch, {"a": "1"}, 30, 60)
    assert watch.look({"a": "1"}, 61, 61.01) == {"a": "1"}


def test_a_watcher_that_slept_or_waited_long_begins_anew() -> None:
    slept, waited = Watch(lease_s=30, every_s=1), Watch(lease_s=30, every_s=1)
    looks(slept, {"a": "1"}, 0, 20)
    assert not slept.look({"a": "1"}, 40, 40.01)
    looks(waited, {"a": "1"}, 0, 29)
    assert not waited.look({"a": "1"}, 30, 31.5)
    assert not looks(waited, {"a": "1"}, 32, 61)


def test_a_host_that_was_away_is_seen_anew() -> None:
    watch = Watch(lease_s=3, every_s=1)
    looks(watch, {"a": "1"}, 0, 2)
    watch.look({}, 3, 3.01)
    assert not watch.look({"a": "1"}, 4, 4.01)


# ---- who is emptied


@pytest.mark.parametrize(
    ("held", "ordered", "chosen"),
    [
        ({}, None, None),
        ({1: 3, 2: 1, 3: 2}, None, 2),
        ({1: 3, 2: 0}, None, None),
        ({1: 3, 2: 2}, 1, 1),
        ({1: 3, 2: 2}, 7, 2),
        ({2: 2, 1: 2}, None, 1),
    ],
)
def test_the_one_with_the_fewest_items_is_emptied_and_stays_it(
    held: dict[int, int], ordered: int | None, chosen: int | None
) -> None:
    assert choose(held, ordered) == chosen


def test_a_return_order_becomes_a_blame() -> None:
    order = {"blame": "items", "items": [["t1", 3], ["t2", 4]], "counted": ["t2"]}
    blame = blame_of(order)
    assert (blame.kind, blame.items, blame.overdue) == ("items", [("t1", 3), ("t2", 4)], ["t2"])
    assert blame_of({"blame": "nobody", "items": [], "counted": []}).kind == "nobody"


# ---- who is rung


def test_the_latest_idle_worker_is_rung_and_nobody_twice(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        assert not await idle_workers.ring()
        idle_workers.hear(1, wakeup.IDLE)
        idle_workers.hear(2, wakeup.IDLE)
        assert idle_workers.wanted.is_set()
        first, second = idle_workers.ring(), idle_workers.ring()
        assert not idle_workers.wanted.is_set()
        assert not await idle_workers.ring()
        assert [read(end) for end in theirs] == [wakeup.WAKE, wakeup.WAKE, b""]
        idle_workers.hear(2, wakeup.ANSWERED)
        idle_workers.hear(1, wakeup.IDLE)
        assert await first
        assert await second
        assert idle_workers.idle == {1}
        idle_workers.retire()

    asyncio.run(scene())


def test_a_worker_that_holds_nothing_is_rung_before_one_that_could_take_more(
    workers: Workers,
) -> None:
    idle_workers, theirs, statuses = workers

    async def scene() -> None:
        for slot, state in enumerate((State.IDLE, State.IDLE, State.WORKING), 1):
            statuses[slot - 1].state = state
            idle_workers.hear(slot, wakeup.IDLE)
        idle_workers.ring()
        assert [read(end) for end in theirs] == [b"", wakeup.WAKE, b""]
        idle_workers.ring()
        assert [read(end) for end in theirs] == [wakeup.WAKE, b"", b""]
        idle_workers.ring()
        assert [read(end) for end in theirs] == [b"", b"", wakeup.WAKE]
        idle_workers.retire()

    asyncio.run(scene())


def test_a_ring_passes_on_when_its_worker_is_dismissed(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        idle_workers.hear(1, wakeup.IDLE)
        idle_workers.hear(2, wakeup.IDLE)
        ring = idle_workers.ring()
        idle_workers.dismiss(2)
        assert read(theirs[0]) == wakeup.WAKE
        assert not ring.done()
        idle_workers.dismiss(1)
        assert not await ring

    asyncio.run(scene())


@pytest.mark.parametrize("word", [wakeup.PASSED, wakeup.BUSY])
def test_a_ring_passes_on_when_its_worker_has_no_room(workers: Workers, word: bytes) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        for slot in (1, 2, 3):
            idle_workers.hear(slot, wakeup.IDLE)
        ring = idle_workers.ring()
        assert read(theirs[2]) == wakeup.WAKE
        idle_workers.hear(3, word)
        assert [read(end) for end in theirs] == [b"", wakeup.WAKE, b""]
        assert not ring.done()
        idle_workers.hear(2, word)
        assert [read(end) for end in theirs] == [wakeup.WAKE, b"", b""], "each of them once"
        idle_workers.hear(1, wakeup.ANSWERED)
        assert await ring
        assert idle_workers.idle == ({2, 3} if word == wakeup.PASSED else set())
        idle_workers.retire()

    asyncio.run(scene())


def test_a_ring_that_all_have_passed_is_over(workers: Workers) -> None:
    # They stay idle for other chains: whoever waits for a ring must not send them at once again.
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        idle_workers.hear(1, wakeup.PASSED)
        idle_workers.hear(2, wakeup.PASSED)
        ring = idle_workers.ring()
        idle_workers.hear(2, wakeup.PASSED)
        idle_workers.hear(1, wakeup.PASSED)
        assert await ring
        assert idle_workers.wanted.is_set()
        assert [read(end) for end in theirs] == [wakeup.WAKE, wakeup.WAKE, b""]
        ring = idle_workers.ring()
        idle_workers.hear(1, wakeup.BUSY)
        idle_workers.hear(2, wakeup.BUSY)
        assert not await ring
        assert not idle_workers.wanted.is_set()

    asyncio.run(scene())


def test_more_rings_the_next_one(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        for slot in (1, 2, 3):
            idle_workers.hear(slot, wakeup.IDLE)
        idle_workers.hear(3, wakeup.MORE)
        assert [read(end) for end in theirs] == [b"", wakeup.WAKE, b""]
        idle_workers.retire()

    asyncio.run(scene())


def test_a_worker_that_does_not_read_is_not_idle(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        idle_workers.hear(1, wakeup.IDLE)
        idle_workers.hear(2, wakeup.IDLE)
        theirs[1].close()
        ring = idle_workers.ring()
        assert read(theirs[0]) == wakeup.WAKE
        idle_workers.hear(1, wakeup.ANSWERED)
        assert await ring
        assert not idle_workers.idle

    asyncio.run(scene())


def test_words_of_a_predecessor_are_not_heard(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        idle_workers.listen()
        idle_workers.introduce(1, "a" * 16)
        theirs[0].send(wakeup.IDLE)
        idle_workers.introduce(1, "b" * 16)
        await asyncio.sleep(0)
        idle_workers.hear(1, wakeup.IDLE + b"a" * 16)
        assert not idle_workers.idle
        idle_workers.hear(1, wakeup.SUSPECTS + b"b" * 16)
        assert idle_workers.suspects.is_set()
        idle_workers.hear(1, wakeup.IDLE + b"b" * 16)
        assert idle_workers.idle == {1}
        idle_workers.close()

    asyncio.run(scene())
