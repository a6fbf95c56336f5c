"""The watchdog sums up time between looks: stalls, hard time limits, and what a pause costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conserver.process.shared_status import Phase, SharedStatus
from conserver.supervisor.watchdog import FROZEN_AFTER_S, TimeLimits, WatchdogClock


@pytest.fixture
def status() -> Iterator[SharedStatus]:
    status = SharedStatus.create()
    yield status
    status.close()


def exceeded(limits: TimeLimits, status: SharedStatus, elapsed_s: float) -> str:
    """The token of the item that a look finds past its limit, or ""."""
    found = limits.look(status.read(), elapsed_s)
    return found.item.token if found else ""


def run(status: SharedStatus, slot: int, link_s: float, chain_s: float = 0.0) -> None:
    """A link starts on an item."""
    status.hold(slot, f"token-{slot}", 1, "uuid", "chain")
    status.start_link(slot, "link", link_s, chain_s)


def test_a_look_counts_one_second_at_most() -> None:
    clock = WatchdogClock(100.0)
    assert clock.elapsed_s(100.5) == 0.5
    assert clock.elapsed_s(4000.0) == 1.0
    assert clock.elapsed_s(4000.25) == 0.25
    assert clock.elapsed_s(3999.0) == 0.0


def test_a_stall_is_counted_until_the_next_heartbeat(status: SharedStatus) -> None:
    limits = TimeLimits()
    for _ in range(4):
        limits.look(status.read(), 0.5)
    assert limits.stalled_s == 1.5
    status.beat()
    limits.look(status.read(), 0.5)
    assert limits.stalled_s == 0.0


@pytest.mark.parametrize(("link_s", "chain_s"), [(1.0, 0.0), (0.0, 1.0), (1.0, 9.0)])
def test_a_limit_is_exceeded_when_it_has_been_counted(
    status: SharedStatus, link_s: float, chain_s: float
) -> None:
    limits = TimeLimits()
    run(status, 0, link_s, chain_s)
    # Not at the first look: the link may have started just before it.
    assert [exceeded(limits, status, 0.5) for _ in range(3)] == ["", "", "token-0"]


def test_an_item_without_limits_exceeds_none(status: SharedStatus) -> None:
    limits = TimeLimits()
    run(status, 0, 0.0)
    assert not any(exceeded(limits, status, 1.0) for _ in range(1000))


def test_the_next_link_starts_at_zero_and_the_chain_goes_on(status: SharedStatus) -> None:
    limits = TimeLimits()
    run(status, 0, 2.0, 3.0)
    assert [exceeded(limits, status, 1.0) for _ in range(2)] == ["", ""]
    status.start_link(0, "second", 2.0, 3.0)
    # The limit of its chain: 3 s in two links.
    assert [exceeded(limits, status, 1.0) for _ in range(2)] == ["", "token-0"]


def test_another_item_in_the_same_slot_starts_at_zero(status: SharedStatus) -> None:
    limits = TimeLimits()
    for _ in range(3):
        run(status, 0, 2.0, 2.0)
        assert [exceeded(limits, status, 1.0) for _ in range(2)] == ["", ""]
        status.free(0)


def test_no_limit_counts_while_an_item_is_paused_or_stored(status: SharedStatus) -> None:
    limits = TimeLimits()
    run(status, 0, 2.0, 2.0)
    exceeded(limits, status, 1.0)
    status.set_phase(0, Phase.UNTIMED)
    assert not any(exceeded(limits, status, 1.0) for _ in range(100))
    status.set_phase(0, Phase.RUNNING)
    assert [exceeded(limits, status, 1.0) for _ in range(2)] == ["", "token-0"]
    status.set_phase(0, Phase.FINISHING)
    assert not any(exceeded(limits, status, 1.0) for _ in range(100))


def test_one_of_several_items_exceeds_its_limit(status: SharedStatus) -> None:
    limits = TimeLimits()
    for slot, limit_s in enumerate((9.0, 1.0, 0.0)):
        run(status, slot, limit_s)
    found = []
    for _ in range(3):
        status.beat()
        found.append(exceeded(limits, status, 0.5))
    assert found == ["", "", "token-1"]


@pytest.mark.parametrize("limit_s", [0.5, 2.0])
def test_no_item_is_over_its_limit_while_one_of_several_freezes_the_process(
    status: SharedStatus, limit_s: float
) -> None:
    # A link keeps the interpreter's lock; nothing shows which one.
    limits = TimeLimits()
    run(status, 0, limit_s)
    run(status, 1, 9.0)
    while not limits.frozen_past_limit:
        assert exceeded(limits, status, 0.5) == ""
    assert limits.stalled_s == max(limit_s, FROZEN_AFTER_S), "the shortest limit has passed"


def test_a_freeze_charges_each_of_several_items_a_bounded_time(status: SharedStatus) -> None:
    limits = TimeLimits()
    run(status, 0, 4.0)
    run(status, 1, 9.0)
    for _ in range(8):
        assert exceeded(limits, status, 0.5) == ""
    assert (limits.stalled_s, limits.frozen_past_limit) == (3.5, False)
    found = []
    for _ in range(5):  # The look after the freeze counts, too: 1.5 + 5 * 0.5 s.
        status.beat()
        found.append(exceeded(limits, status, 0.5))
    assert found == ["", "", "", "", "token-0"]


def test_a_heartbeat_per_second_charges_all_items(status: SharedStatus) -> None:
    limits = TimeLimits()
    run(status, 0, 2.0)
    run(status, 1, 9.0)
    found = []
    for look in range(5):
        if look % 2 == 0:
            status.beat()
        found.append(exceeded(limits, status, 0.5))
    assert found == ["", "", "", "", "token-0"]
    assert not limits.frozen_past_limit


def test_an_item_that_runs_alone_is_charged_while_the_process_is_frozen(
    status: SharedStatus,
) -> None:
    limits = TimeLimits()
    run(status, 0, 2.0)
    run(status, 1, 0.0)
    status.set_phase(1, Phase.FINISHING)
    found = [exceeded(limits, status, 0.5) for _ in range(5)]
    assert found == ["", "", "", "", "token-0"]
    assert not limits.frozen_past_limit
