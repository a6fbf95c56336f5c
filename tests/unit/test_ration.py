"""What a worker may use up: items with jitter, memory by its own word or the kernel's."""

from __future__ import annotations

import os

from conserver.page import Page
from conserver.ration import MEMORY_LOOK_S, Ration, memory_bytes


def test_without_limits_nothing_is_ever_spent() -> None:
    page = Page.create()
    page.count(done=10**9)
    page.tell_memory(1 << 50)
    assert Ration(0, 0).spent(os.getpid(), page.read(), 1.0) == ""
    page.close()


def test_items_are_spent_between_nine_tenths_of_the_limit_and_the_limit() -> None:
    page = Page.create()
    page.count(done=890, failed=9)
    rations = [Ration(1000, 0) for _ in range(200)]
    assert not any(ration.spent(1, page.read(), 1.0) for ration in rations)
    page.count(done=51)
    spent = [ration.spent(1, page.read(), 1.0) for ration in rations]
    assert 0 < sum(map(bool, spent)) < 200
    page.count(done=50)
    assert [ration.spent(1, page.read(), 1.0) for ration in rations] == ["1000 items"] * 200
    page.close()


def test_memory_is_looked_at_now_and_then() -> None:
    page = Page.create()
    page.tell_memory(64 << 20)
    ration = Ration(0, 128 << 20)
    assert ration.spent(1, page.read(), 10.0) == ""
    page.tell_memory(200 << 20)
    assert ration.spent(1, page.read(), 10.0 + MEMORY_LOOK_S / 2) == ""
    assert ration.spent(1, page.read(), 10.0 + MEMORY_LOOK_S) == "200 MiB of memory"
    page.close()


def test_memory_is_spent_between_nine_tenths_of_the_limit_and_the_limit() -> None:
    page = Page.create()
    for used, fewest, most in ((89, 0, 0), (95, 1, 199), (101, 200, 200)):
        page.tell_memory(used << 20)
        spent = [Ration(0, 100 << 20).spent(1, page.read(), 1.0) for _ in range(200)]
        assert fewest <= sum(map(bool, spent)) <= most
    page.close()


def test_the_kernel_is_asked_where_the_worker_says_nothing() -> None:
    page = Page.create()
    assert Ration(0, 1 << 20).spent(os.getpid(), page.read(), 1.0).endswith("MiB of memory")
    assert memory_bytes(os.getpid()) > 1 << 20
    assert memory_bytes(2**22 + 1) == 0  # Nobody has that number.
    page.close()
