"""The steward's decisions that need no Redis: who is dead, who is emptied, who is rung."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from conserver import words
from conserver.boot import pair
from conserver.page import Page, State
from conserver.steward.reaper import Watch
from conserver.steward.registry import blame_of
from conserver.steward.roster import Roster
from conserver.steward.suspects import choose

Workers = tuple[Roster, list[socket.socket], list[Page]]


@pytest.fixture
def workers() -> Iterator[Workers]:
    """A roster of three slots, their workers' ends and pages."""
    lines = [pair() for _ in range(3)]
    pages = [Page.create() for _ in range(3)]
    yield Roster([line[0] for line in lines], pages), [line[1] for line in lines], pages
    for page in pages:
        page.close()
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
    roster, theirs, _ = workers

    async def scene() -> None:
        assert not await roster.ring()
        roster.hear(1, words.IDLE)
        roster.hear(2, words.IDLE)
        assert roster.wanted.is_set()
        first, second = roster.ring(), roster.ring()
        assert not roster.wanted.is_set()
        assert not await roster.ring()
        assert [read(end) for end in theirs] == [words.RING, words.RING, b""]
        roster.hear(2, words.ANSWERED)
        roster.hear(1, words.IDLE)
        assert await first
        assert await second
        assert roster.idle == {1}
        roster.retire()

    asyncio.run(scene())


def test_a_worker_that_holds_nothing_is_rung_before_one_that_could_take_more(
    workers: Workers,
) -> None:
    roster, theirs, pages = workers

    async def scene() -> None:
        for slot, state in enumerate((State.IDLE, State.IDLE, State.WORKING), 1):
            pages[slot - 1].state = state
            roster.hear(slot, words.IDLE)
        roster.ring()
        assert [read(end) for end in theirs] == [b"", words.RING, b""]
        roster.ring()
        assert [read(end) for end in theirs] == [words.RING, b"", b""]
        roster.ring()
        assert [read(end) for end in theirs] == [b"", b"", words.RING]
        roster.retire()

    asyncio.run(scene())


def test_a_ring_passes_on_when_its_worker_is_dismissed(workers: Workers) -> None:
    roster, theirs, _ = workers

    async def scene() -> None:
        roster.hear(1, words.IDLE)
        roster.hear(2, words.IDLE)
        ring = roster.ring()
        roster.dismiss(2)
        assert read(theirs[0]) == words.RING
        assert not ring.done()
        roster.dismiss(1)
        assert not await ring

    asyncio.run(scene())


@pytest.mark.parametrize("word", [words.PASSED, words.BUSY])
def test_a_ring_passes_on_when_its_worker_has_no_room(workers: Workers, word: bytes) -> None:
    roster, theirs, _ = workers

    async def scene() -> None:
        for slot in (1, 2, 3):
            roster.hear(slot, words.IDLE)
        ring = roster.ring()
        assert read(theirs[2]) == words.RING
        roster.hear(3, word)
        assert [read(end) for end in theirs] == [b"", words.RING, b""]
        assert not ring.done()
        roster.hear(2, word)
        assert [read(end) for end in theirs] == [words.RING, b"", b""], "each of them once"
        roster.hear(1, words.ANSWERED)
        assert await ring
        assert roster.idle == ({2, 3} if word == words.PASSED else set())
        roster.retire()

    asyncio.run(scene())


def test_a_ring_that_all_have_passed_is_over(workers: Workers) -> None:
    # They stay idle for other chains: whoever waits for a ring must not send them at once again.
    roster, theirs, _ = workers

    async def scene() -> None:
        roster.hear(1, words.PASSED)
        roster.hear(2, words.PASSED)
        ring = roster.ring()
        roster.hear(2, words.PASSED)
        roster.hear(1, words.PASSED)
        assert await ring
        assert roster.wanted.is_set()
        assert [read(end) for end in theirs] == [words.RING, words.RING, b""]
        ring = roster.ring()
        roster.hear(1, words.BUSY)
        roster.hear(2, words.BUSY)
        assert not await ring
        assert not roster.wanted.is_set()

    asyncio.run(scene())


def test_more_rings_the_next_one(workers: Workers) -> None:
    roster, theirs, _ = workers

    async def scene() -> None:
        for slot in (1, 2, 3):
            roster.hear(slot, words.IDLE)
        roster.hear(3, words.MORE)
        assert [read(end) for end in theirs] == [b"", words.RING, b""]
        roster.retire()

    asyncio.run(scene())


def test_a_worker_that_does_not_read_is_not_idle(workers: Workers) -> None:
    roster, theirs, _ = workers

    async def scene() -> None:
        roster.hear(1, words.IDLE)
        roster.hear(2, words.IDLE)
        theirs[1].close()
        ring = roster.ring()
        assert read(theirs[0]) == words.RING
        roster.hear(1, words.ANSWERED)
        assert await ring
        assert not roster.idle

    asyncio.run(scene())


def test_words_of_a_predecessor_are_not_heard(workers: Workers) -> None:
    roster, theirs, _ = workers

    async def scene() -> None:
        roster.listen()
        roster.introduce(1, "a" * 16)
        theirs[0].send(words.IDLE)
        roster.introduce(1, "b" * 16)
        await asyncio.sleep(0)
        roster.hear(1, words.IDLE + b"a" * 16)
        assert not roster.idle
        roster.hear(1, words.SUSPECTS + b"b" * 16)
        assert roster.suspects.is_set()
        roster.hear(1, words.IDLE + b"b" * 16)
        assert roster.idle == {1}
        roster.close()

    asyncio.run(scene())
