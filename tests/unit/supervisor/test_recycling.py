"""What a worker may use up: items with jitter, memory by its own word or the kernel's."""

from __future__ import annotations

import os

from conserver.process.shared_status import SharedStatus
from conserver.supervisor.recycling import MEMORY_LOOK_S, RecycleLimits, memory_bytes


def test_without_limits_nothing_is_ever_spent() -> None:
    status = SharedStatus.create()
    status.count(done=10**9)
    status.tell_memory(1 << 50)
    assert RecycleLimits(0, 0).spent(os.getpid(), status.read(), 1.0) == ""
    status.close()


def test_items_are_spent_between_nine_tenths_of_the_limit_and_the_limit() -> None:
    status = SharedStatus.create()
    status.count(done=890, failed=9)
    rations = [RecycleLimits(1000, 0) for _ in range(200)]
    assert not any(recycle_limits.spent(1, status.read(), 1.0) for recycle_limits in rations)
    status.count(done=51)
    spent = [recycle_limits.spent(1, status.read(), 1.0) for recycle_limits in rations]
    assert 0 < sum(map(bool, spent)) < 200
    status.count(done=50)
    assert [recycle_limits.spent(1, status.read(), 1.0) for recycle_limits in rations] == [
        "1000 items"
    ] * 200
    status.close()


def test_memory_is_looked_at_now_and_then() -> None:
    status = SharedStatus.create()
    status.tell_memory(64 << 20)
    recycle_limits = RecycleLimits(0, 128 << 20)
    assert recycle_limits.spent(1, status.read(), 10.0) == ""
    status.tell_memory(200 << 20)
    assert recycle_limits.spent(1, status.read(), 10.0 + MEMORY_LOOK_S / 2) == ""
    assert recycle_limits.spent(1, status.read(), 10.0 + MEMORY_LOOK_S) == "200 MiB of memory"
    status.close()


def test_memory_is_spent_between_nine_tenths_of_the_limit_and_the_limit() -> None:
    status = SharedStatus.create()
    for used, fewest, most in ((89, 0, 0), (95, 1, 199), (101, 200, 200)):
        status.tell_memory(used << 20)
        spent = [RecycleLimits(0, 100 << 20).spent(1, status.read(), 1.0) for _ in range(200)]
        assert fewest <= sum(map(bool, spent)) <= most
    status.close()


def test_the_kernel_is_asked_where_the_worker_says_nothing() -> None:
    status = SharedStatus.create()
    assert (
        RecycleLimits(0, 1 << 20).spent(os.getpid(), status.read(), 1.0).endswith("MiB of memory")
    )
    assert memory_bytes(os.getpid()) > 1 << 20
    assert memory_bytes(2**22 + 1) == 0  # Nobody has that number.
    status.close()
