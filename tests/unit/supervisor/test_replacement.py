"""Recycling: what one worker may use, in items with jitter and in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from conserver.process.shared_status import SharedStatus
from conserver.supervisor.replacement import MEMORY_EVERY_S, RecycleLimits, memory_bytes

MIB = 1 << 20


@pytest.fixture
def status() -> Iterator[SharedStatus]:
    status = SharedStatus.create()
    yield status
    status.close()


def test_without_limits_none_is_exceeded(status: SharedStatus) -> None:
    status.count(done=10**9)
    status.set_memory(1 << 50)
    assert RecycleLimits(0, 0).exceeded(os.getpid(), status.read(), 1.0) == ""


def test_the_limit_of_items_is_lowered_by_up_to_a_tenth(status: SharedStatus) -> None:
    def exceeded() -> list[str]:
        return [one.exceeded(1, status.read(), 1.0) for one in limits]

    limits = [RecycleLimits(1000, 0) for _ in range(200)]
    status.count(done=890, failed=9)
    assert not any(exceeded())
    status.count(done=51)
    assert 0 < sum(map(bool, exceeded())) < 200
    status.count(done=50)
    assert exceeded() == ["1000 items"] * 200


def test_memory_is_checked_now_and_then(status: SharedStatus) -> None:
    limits = RecycleLimits(0, 128 * MIB)
    status.set_memory(64 * MIB)
    assert limits.exceeded(1, status.read(), 10.0) == ""
    status.set_memory(200 * MIB)
    assert limits.exceeded(1, status.read(), 10.0 + MEMORY_EVERY_S / 2) == ""
    assert limits.exceeded(1, status.read(), 10.0 + MEMORY_EVERY_S) == "200 MiB of memory"


def test_the_limit_of_memory_is_lowered_by_up_to_a_tenth(status: SharedStatus) -> None:
    for used, fewest, most in ((89, 0, 0), (95, 1, 199), (101, 200, 200)):
        status.set_memory(used * MIB)
        exceeded = [RecycleLimits(0, 100 * MIB).exceeded(1, status.read(), 1.0) for _ in range(200)]
        assert fewest <= sum(map(bool, exceeded)) <= most


def test_the_kernel_is_asked_for_the_memory_where_the_worker_shows_none(
    status: SharedStatus,
) -> None:
    limits = RecycleLimits(0, MIB)
    assert limits.exceeded(os.getpid(), status.read(), 1.0).endswith("MiB of memory")
    assert memory_bytes(os.getpid()) > MIB
    assert memory_bytes(2**22 + 1) == 0, "there is no such pid"
