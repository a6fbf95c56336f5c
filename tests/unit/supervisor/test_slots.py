"""A child slot: its states, its backoff, and what a new child does not inherit from a dead one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from conserver.process.messages import Blame, receive
from conserver.supervisor.child import Child
from conserver.supervisor.death import KillReason, LeaveReason, LimitExceeded
from conserver.supervisor.slots import (
    BACKOFF_MAX_S,
    LONG_LIFE_S,
    Backoff,
    ChildSlot,
    SharedResources,
    SlotState,
)

KILLED = -9


class Living:
    """As much of a child as a slot looks at."""

    pid = 7

    def __init__(self) -> None:
        self.ready = False
        self.killed = 0

    def kill(self) -> None:
        self.killed += 1


@pytest.fixture
def slot() -> Iterator[ChildSlot]:
    """An empty slot of a worker."""
    resources = SharedResources(1)
    yield resources.workers[0]
    resources.close()


def start(slot: ChildSlot, generation: int = 1) -> Living:
    child = Living()
    slot.start(cast("Child", child), generation)
    return child


def test_the_backoff_grows_while_children_keep_dying() -> None:
    backoff = Backoff()
    waits = [backoff.after_s(0.1) for _ in range(9)]
    assert waits == [0, 1, 2, 4, 8, 16, BACKOFF_MAX_S, BACKOFF_MAX_S, BACKOFF_MAX_S]
    assert backoff.after_s(LONG_LIFE_S) == 0
    assert backoff.after_s(0.1) == 1


def test_the_backoff_stays_short_where_an_item_is_blamed() -> None:
    # A hundred poisons are four hundred deaths: at half a minute each there would be no service.
    backoff = Backoff()
    assert [backoff.after_s(0.1, blamed=True) for _ in range(5)] == [0, 1, 1, 1, 1]
    assert backoff.after_s(0.1) == 16, "they count all the same"


def test_the_backoff_has_no_largest_number_of_deaths() -> None:
    # 2 to the power of the deaths exceeded a float after 1026 of them, and ended the supervisor.
    backoff = Backoff()
    assert [backoff.after_s(0.1) for _ in range(2000)][-1] == BACKOFF_MAX_S


def test_a_slot_goes_through_its_states(slot: ChildSlot) -> None:
    states: list[tuple[SlotState, str, bool, bool]] = []

    def note() -> None:
        states.append((slot.state, slot.state_name, slot.serving, slot.ready_soon))

    note()
    slot.registering = 3
    note()
    slot.registering = 0
    child = start(slot)
    note()
    child.ready = True
    note()
    slot.drain(LeaveReason.RELOAD, 1.0)
    note()
    slot.kill(KillReason.UNNEEDED)
    note()
    slot.clear()
    note()
    assert states == [
        (SlotState.EMPTY, "waiting", False, True),
        (SlotState.REGISTERING, "registering", False, True),
        (SlotState.STARTING, "starting", False, True),
        (SlotState.SERVING, "starting", True, False),  # the name is the child's own
        (SlotState.DRAINING, "draining", False, False),
        (SlotState.DRAINING, "draining", False, False),
        (SlotState.EMPTY, "waiting", False, True),
    ]


def test_a_slot_whose_children_keep_dying_is_not_expected_to_be_ready_soon(slot: ChildSlot) -> None:
    for _ in range(2):
        slot.backoff.after_s(0.1)
    assert not slot.ready_soon


def test_the_first_reason_to_kill_counts(slot: ChildSlot) -> None:
    child = start(slot)
    slot.status.hold(0, "token", 1, "uuid", "chain")
    (item,) = slot.status.read().items
    slot.kill(KillReason.TIME_LIMIT, LimitExceeded(item, "chain", 5.0))
    slot.kill(KillReason.UNNEEDED)
    assert slot.death(KILLED).blame().items[0].counts
    assert child.killed == 2


def test_no_item_is_blamed_for_a_kill_at_the_end_of_a_drain(slot: ChildSlot) -> None:
    start(slot)
    slot.status.hold(0, "token", 1, "uuid", "chain")
    slot.status.start_link(0, "link")
    slot.drain(LeaveReason.SHUTDOWN, 1.0)
    assert slot.death(KILLED).blame().items[0][:2] == ("token", 1)
    slot.kill(KillReason.UNNEEDED)
    assert slot.death(KILLED).blame() == Blame()


def test_a_child_is_asked_once_to_leave(slot: ChildSlot) -> None:
    start(slot).ready = True
    slot.drain(LeaveReason.RECYCLING, 1.0)
    slot.drain(LeaveReason.SHUTDOWN, 2.0)
    assert receive(slot.child_end) == [{"type": "drain"}]
    assert (slot.leave_reason, slot.leaving_since_s) == (LeaveReason.RECYCLING, 1.0)
    assert not slot.serving


def test_a_new_child_gets_nothing_of_the_dead_one(slot: ChildSlot) -> None:
    start(slot)
    slot.status.hold(0, "token", 1, "uuid", "chain")
    slot.drain(LeaveReason.RELOAD, 1.0)
    slot.kill(KillReason.UNNEEDED)
    slot.clear()
    slot.renew()
    assert receive(slot.child_end) == []
    assert slot.status.read().items == ()
    start(slot, 2).ready = True
    reasons: list[Any] = [slot.leave_reason, slot.kill_reason]
    assert (reasons, slot.restarts, slot.generation) == ([None, None], 1, 2)
    assert slot.serving
