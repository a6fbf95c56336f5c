"""claim_schedule.py: the transition table of its docstring."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from conserver.process import wakeup
from conserver.process.messages import pair
from conserver.queue.calls import Claim
from conserver.queue.record import Claimed
from conserver.worker.claim_schedule import ClaimSchedule, ClaimState

TICK_S = 3600.0
ITEM = Claimed("token", 1, 0, False, 0, "in", b"", b"u1")
SUSPECT = Claimed("token", 1, 0, True, 0, "in", b"", b"u1")
ASKED = frozenset({"main"})
CLAIMING, WOKEN = ClaimState.CLAIMING, ClaimState.WOKEN
CAUGHT_UP, IDLE_WAITING = ClaimState.CAUGHT_UP, ClaimState.IDLE_WAITING


def claimed(claim: Claim, thread_idle: bool = False) -> Callable[[ClaimSchedule], None]:
    return lambda schedule: schedule.claimed(claim, ASKED, thread_idle=thread_idle)


def no_claim(**words: bool) -> Callable[[ClaimSchedule], None]:
    return lambda schedule: schedule.no_claim(**words)


@pytest.mark.parametrize(
    ("state", "event", "then", "sent"),
    [
        (WOKEN, no_claim(has_room=False, thread_idle=True), CLAIMING, wakeup.BUSY),
        (IDLE_WAITING, no_claim(has_room=False), IDLE_WAITING, b""),
        (CLAIMING, claimed(Claim([ITEM], more=1)), CLAIMING, wakeup.BUSY),
        (CLAIMING, claimed(Claim([], more=1), thread_idle=True), CLAIMING, wakeup.BUSY),
        (CLAIMING, claimed(Claim([ITEM])), CAUGHT_UP, wakeup.BUSY),
        (CLAIMING, claimed(Claim([ITEM]), thread_idle=True), IDLE_WAITING, wakeup.IDLE),
        (WOKEN, claimed(Claim([])), CAUGHT_UP, wakeup.BUSY),
        (WOKEN, claimed(Claim([]), thread_idle=True), IDLE_WAITING, wakeup.IDLE),
        (CLAIMING, claimed(Claim([], suspects=1)), CAUGHT_UP, wakeup.SUSPECTS + wakeup.BUSY),
        (WOKEN, claimed(Claim([SUSPECT]), thread_idle=True), CLAIMING, wakeup.BUSY),
        (CAUGHT_UP, no_claim(thread_idle=True), IDLE_WAITING, wakeup.IDLE),
        (CAUGHT_UP, no_claim(), CAUGHT_UP, b""),
        (CLAIMING, no_claim(thread_idle=True), CLAIMING, b""),
        (IDLE_WAITING, no_claim(thread_idle=True), IDLE_WAITING, b""),
    ],
)
def test_transitions(
    state: ClaimState, event: Callable[[ClaimSchedule], None], then: ClaimState, sent: bytes
) -> None:
    coordinator, end = pair()
    with closing(coordinator), closing(end):
        schedule = ClaimSchedule(end, TICK_S)
        schedule.state = state
        event(schedule)
        assert schedule.state is then
        schedule.sender.flush()
        assert (coordinator.recv(64) if sent else b"") == sent


@pytest.mark.parametrize("state", list(ClaimState))
@pytest.mark.parametrize(
    "message", [wakeup.WAKE, wakeup.FINISH_FIRST, wakeup.WAKE + wakeup.FINISH_FIRST]
)
def test_messages_of_the_coordinator(state: ClaimState, message: bytes) -> None:
    coordinator, end = pair()
    with closing(coordinator), closing(end):
        schedule = ClaimSchedule(end, TICK_S)
        schedule.state = state
        coordinator.send(message)
        schedule.receive()
    woken = wakeup.WAKE in message or state is WOKEN
    assert schedule.state is (WOKEN if woken else CLAIMING)
    assert schedule.due_in_s(0.0) == 0.0
    assert schedule.finishes_first(0.0) is (wakeup.FINISH_FIRST in message)


def test_chains_whose_lists_a_claim_emptied_are_asked_for_after_a_tick() -> None:
    schedule = ClaimSchedule(None, TICK_S)
    assert (schedule.due_in_s(0.0), schedule.emptied(0.0)) == (0.0, frozenset())
    schedule.claimed(Claim([]), ASKED, thread_idle=False)
    left_s = schedule.due_in_s(0.0) or 0.0
    assert (left_s >= TICK_S, schedule.emptied(0.0)) == (True, ASKED)
    schedule.no_claim(thread_idle=True)
    assert (schedule.due_in_s(0.0), schedule.emptied(0.0)) == (left_s, ASKED)
    assert (schedule.due_in_s(left_s), schedule.emptied(left_s)) == (0.0, frozenset())


def test_without_room_a_claim_is_due_when_there_is_room_again() -> None:
    schedule = ClaimSchedule(None, TICK_S)
    schedule.no_claim(has_room=False)
    assert schedule.due_in_s(0.0) is None
    schedule.claimed(Claim([ITEM], more=1), ASKED, thread_idle=False)
    assert (schedule.due_in_s(0.0), schedule.emptied(0.0)) == (0.0, frozenset())


def test_a_message_asks_for_every_chain_again() -> None:
    coordinator, end = pair()
    with closing(coordinator), closing(end):
        schedule = ClaimSchedule(end, TICK_S)
        schedule.claimed(Claim([]), ASKED, thread_idle=True)
        coordinator.send(wakeup.WAKE)
        schedule.receive()
        assert (schedule.due_in_s(0.0), schedule.emptied(0.0)) == (0.0, frozenset())
