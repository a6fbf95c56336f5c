"""Values that are read once for all who ask at the same time."""

from __future__ import annotations

import threading

import pytest

from conserver.http.dashboard.snapshots import KEPT_MAX, Snapshots


class Clock:
    """A clock that is set by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_value_is_read_again_when_it_is_old() -> None:
    clock, read = Clock(), []

    def value() -> int:
        read.append(1)
        return len(read)

    snapshots = Snapshots(clock)
    assert snapshots.get("a", 1, value) == 1
    clock.now_s += 1
    assert snapshots.get("a", 1, value) == 1
    clock.now_s += 0.1
    assert snapshots.get("a", 1, value) == 2
    snapshots.clear()
    assert snapshots.get("a", 1, value) == 3


def test_an_error_is_shared_while_it_is_young() -> None:
    clock, tries = Clock(), []

    def broken() -> int:
        tries.append(1)
        raise ValueError("away")

    snapshots = Snapshots(clock)
    for _ in range(3):
        with pytest.raises(ValueError, match="away"):
            snapshots.get("a", 1, broken)
    assert len(tries) == 1
    clock.now_s += 2
    assert snapshots.get("a", 1, lambda: 7) == 7


def test_many_who_ask_at_once_cause_one_reading() -> None:
    snapshots, reads, go = Snapshots(), [], threading.Event()

    def slow() -> int:
        reads.append(1)
        go.wait(60)
        return 5

    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(snapshots.get("a", 60, slow)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(60)
    assert found == [5] * 20
    assert len(reads) == 1


def test_what_is_kept_is_bounded() -> None:
    snapshots = Snapshots()
    for number in range(KEPT_MAX + 50):
        snapshots.get(number, 60, lambda: 0)
    assert len(snapshots._kept) == KEPT_MAX
