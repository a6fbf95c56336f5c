"""TimeLimits count looks, not time: what stands still, what is overdue, what a pause does not
cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conserver.process.shared_status import SharedStatus
from conserver.supervisor.time_limits import TimeLimits, WatchdogClock


@pytest.fixture
def status() -> Iterator[SharedStatus]:
    status = SharedStatus.create()
    yield status
    status.close()


def overdue(time_limits: TimeLimits, status: SharedStatus, passed_s: float) -> str:
    """The token of the item that a look finds overdue, or nothing."""
    found = time_limits.look(status.read(), passed_s)
    return found.item.token if found else ""


def test_a_look_counts_one_second_at_most() -> None:
    clock = WatchdogClock(100.0)
    assert clock.passed_s(100.5) == 0.5
    assert clock.passed_s(4000.0) == 1.0
    assert clock.passed_s(4000.25) == 0.25
    assert clock.passed_s(3999.0) == 0.0


def test_a_stamp_that_does_not_move_is_counted_until_it_does(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    for _ in range(4):
        time_limits.look(status.read(), 0.5)
    assert time_limits.stalled_s == 1.5
    status.beat()
    time_limits.look(status.read(), 0.5)
    assert time_limits.stalled_s == 0.0


@pytest.mark.parametrize(("link_s", "chain_s"), [(1.0, 0.0), (0.0, 1.0), (1.0, 9.0)])
def test_an_item_is_overdue_when_its_limit_has_been_counted(
    status: SharedStatus, link_s: float, chain_s: float
) -> None:
    time_limits = TimeLimits()
    status.hold(0, "token", 1, "uuid", "chain")
    status.run(0, "link", link_s, chain_s)
    assert overdue(time_limits, status, 0.5) == ""  # It may have begun just now.
    assert overdue(time_limits, status, 0.5) == ""
    assert overdue(time_limits, status, 0.5) == "token"


def test_an_item_without_limits_is_never_overdue(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    status.hold(0, "token", 1, "uuid", "chain")
    status.run(0, "link")
    assert not any(overdue(time_limits, status, 1.0) for _ in range(1000))


def test_the_next_link_has_a_clock_of_its_own_and_the_chain_goes_on(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    status.hold(0, "token", 1, "uuid", "chain")
    status.run(0, "first", 2.0, 3.0)
    for _ in range(2):
        assert overdue(time_limits, status, 1.0) == ""
    status.run(0, "second", 2.0, 3.0)
    assert overdue(time_limits, status, 1.0) == ""
    assert overdue(time_limits, status, 1.0) == "token"  # Its chain: 3 s in two links.


def test_another_item_in_the_same_slot_starts_at_zero(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    for token in ("a", "b", "c"):
        status.hold(0, token, 1, "uuid", "chain")
        status.run(0, "link", 2.0, 2.0)
        assert overdue(time_limits, status, 1.0) == ""
        assert overdue(time_limits, status, 1.0) == ""
        status.free(0)


def test_limits_are_not_counted_while_an_item_waits_or_is_stored(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    status.hold(0, "token", 1, "uuid", "chain")
    status.run(0, "link", 2.0, 2.0)
    overdue(time_limits, status, 1.0)
    status.pause(0)
    assert not any(overdue(time_limits, status, 1.0) for _ in range(100))
    status.resume(0)
    assert overdue(time_limits, status, 1.0) == ""
    assert overdue(time_limits, status, 1.0) == "token"
    status.store(0)
    assert not any(overdue(time_limits, status, 1.0) for _ in range(100))


def test_only_the_overdue_one_of_several_is_found(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    for slot, limit_s in enumerate((9.0, 1.0, 0.0)):
        status.hold(slot, f"token-{slot}", 1, "uuid", "chain")
        status.run(slot, "link", limit_s)
    found = []
    for _ in range(3):
        status.beat()
        found.append(overdue(time_limits, status, 0.5))
    assert found == ["", "", "token-1"]


def test_nobody_is_charged_where_one_of_several_stops_the_process(status: SharedStatus) -> None:
    # A link that holds the interpreter's lock: which one, nobody can see.
    time_limits = TimeLimits()
    two_links(status, 2.0, 9.0)
    looks = []
    while not time_limits.held_up:
        assert overdue(time_limits, status, 0.5) == ""
        looks.append(time_limits.stalled_s)
    assert looks[-1] == 2.0, "the shortest limit has passed"
    status.beat()  # It has let go after all: the time is lost for everybody.
    assert overdue(time_limits, status, 0.5) == ""
    assert not time_limits.held_up


def test_a_stamp_that_moves_once_a_second_charges_everybody(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    two_links(status, 2.0, 9.0)
    found = []
    for look in range(5):
        if look % 2 == 0:
            status.beat()
        found.append(overdue(time_limits, status, 0.5))
    assert found == ["", "", "", "", "token-0"]
    assert not time_limits.held_up


def test_who_runs_alone_is_charged_while_the_process_stands_still(status: SharedStatus) -> None:
    time_limits = TimeLimits()
    two_links(status, 2.0, 0.0)
    status.store(1)  # Its links are done.
    found = [overdue(time_limits, status, 0.5) for _ in range(5)]
    assert found == ["", "", "", "", "token-0"]
    assert not time_limits.held_up


def two_links(status: SharedStatus, *limits_s: float) -> None:
    """Items that run side by side."""
    for slot, limit_s in enumerate(limits_s):
        status.hold(slot, f"token-{slot}", 1, "uuid", "chain")
        status.run(slot, "link", limit_s)
