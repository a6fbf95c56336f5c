"""Which worker is woken, and when a worker counts as idle."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from conserver.coordinator.idle_workers import IdleWorkers
from conserver.process import wakeup
from conserver.process.messages import pair
from conserver.process.shared_status import SharedStatus, State

Workers = tuple[IdleWorkers, list[socket.socket], list[SharedStatus]]


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Three slots, their workers' ends of the sockets, and their shared statuses."""
    pairs = [pair() for _ in range(3)]
    statuses = [SharedStatus.create() for _ in range(3)]
    yield IdleWorkers([ends[0] for ends in pairs], statuses), [ends[1] for ends in pairs], statuses
    for status in statuses:
        status.close()
    for ends in pairs:
        for end in ends:
            end.close()


def read(end: socket.socket) -> bytes:
    try:
        return end.recv(64)
    except BlockingIOError:
        return b""


def test_the_worker_that_became_idle_last_is_woken_and_none_twice(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        assert idle_workers.wake() is None
        idle_workers.receive(1, wakeup.IDLE)
        idle_workers.receive(2, wakeup.IDLE)
        assert idle_workers.any_idle.is_set()
        assert (idle_workers.wake(), idle_workers.wake()) == (2, 1)
        assert not idle_workers.any_idle.is_set()
        assert idle_workers.wake() is None
        assert [read(end) for end in theirs] == [wakeup.WAKE, wakeup.WAKE, b""]
        idle_workers.receive(2, wakeup.BUSY)
        idle_workers.receive(1, wakeup.IDLE)
        assert idle_workers.idle == {1}

    asyncio.run(scene())


def test_a_worker_that_holds_nothing_is_woken_before_one_that_could_take_more(
    workers: Workers,
) -> None:
    idle_workers, _, statuses = workers

    async def scene() -> None:
        for slot, state in enumerate((State.IDLE, State.IDLE, State.WORKING), 1):
            statuses[slot - 1].state = state
            idle_workers.receive(slot, wakeup.IDLE)
        assert [idle_workers.wake() for _ in range(3)] == [2, 1, 3]

    asyncio.run(scene())


def test_a_worker_that_is_passed_over_is_not_woken(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        idle_workers.receive(1, wakeup.IDLE)
        idle_workers.receive(2, wakeup.IDLE)
        assert idle_workers.wake(passed_over={2}) == 1
        assert idle_workers.wake(passed_over={1, 2}) is None
        assert idle_workers.idle == {2}
        assert [read(end) for end in theirs] == [wakeup.WAKE, b"", b""]

    asyncio.run(scene())


async def answers(idle_workers: IdleWorkers, slot: int) -> bool:
    """Whether somebody who waits for the answer of a worker goes on at once."""
    waiting = asyncio.create_task(idle_workers.await_answer(slot))
    await asyncio.wait([waiting], timeout=0.05)
    return waiting.done() or not waiting.cancel()


@pytest.mark.parametrize("message", [wakeup.IDLE, wakeup.BUSY])
def test_a_woken_worker_answers_with_its_next_message(workers: Workers, message: bytes) -> None:
    idle_workers, _, _ = workers

    async def scene() -> None:
        idle_workers.receive(1, wakeup.IDLE)
        assert idle_workers.wake() == 1
        idle_workers.receive(1, wakeup.SUSPECTS)
        assert not await answers(idle_workers, 1), "that is no answer"
        idle_workers.receive(1, message)
        assert await answers(idle_workers, 1)
        assert idle_workers.idle == ({1} if message == wakeup.IDLE else set())

    asyncio.run(scene())


def test_nobody_waits_for_the_answer_of_a_worker_that_is_gone(workers: Workers) -> None:
    idle_workers, _, _ = workers

    async def scene() -> None:
        idle_workers.assign(1, "a" * 16)
        idle_workers.receive(1, wakeup.IDLE)
        assert idle_workers.wake() == 1
        assert not await answers(idle_workers, 1)
        idle_workers.consumer_died("a" * 16)
        assert await answers(idle_workers, 1)

    asyncio.run(scene())


def test_a_worker_that_does_not_read_is_not_idle(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        idle_workers.receive(1, wakeup.IDLE)
        idle_workers.receive(2, wakeup.IDLE)
        theirs[1].close()
        assert idle_workers.wake() == 1
        assert not idle_workers.idle

    asyncio.run(scene())


def test_no_worker_is_idle_once_the_coordinator_must_end(workers: Workers) -> None:
    idle_workers, _, _ = workers

    async def scene() -> None:
        idle_workers.receive(1, wakeup.IDLE)
        idle_workers.retire()
        idle_workers.receive(2, wakeup.IDLE)
        assert not idle_workers.idle
        assert not idle_workers.any_idle.is_set()

    asyncio.run(scene())


def test_messages_of_a_predecessor_are_discarded(workers: Workers) -> None:
    idle_workers, theirs, _ = workers

    async def scene() -> None:
        idle_workers.listen()
        idle_workers.assign(1, "a" * 16)
        theirs[0].send(wakeup.IDLE)
        idle_workers.assign(1, "b" * 16)
        await asyncio.sleep(0)
        assert not idle_workers.idle
        idle_workers.receive(1, wakeup.SUSPECTS + wakeup.IDLE)
        assert idle_workers.suspects.is_set()
        assert idle_workers.idle == {1}
        idle_workers.close()

    asyncio.run(scene())
