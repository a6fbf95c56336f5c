"""ClaimSchedule: when a worker claims next, and its wakeup dialogue with the coordinator.

The coordinator waits at the lists (BLMOVE) for all workers of the host, and wakes an idle worker
when an item arrives (process/wakeup.py has the messages). Because a wakeup can get lost, a worker
also claims once per TICK_INTERVAL.

    state         meaning                                               claims
    CLAIMING      items may wait (the state at the start)               as soon as there is room
    WOKEN         as CLAIMING; the worker owes the coordinator IDLE     as soon as there is room
                  or BUSY
    CAUGHT_UP     the last claim left no item behind                    after a tick
    IDLE_WAITING  as CAUGHT_UP; the coordinator may wake this worker    when woken, or after a tick

    in state      event                                       then          sends
    any           WAKE received                               WOKEN
    not WOKEN     FINISH_FIRST received                       CLAIMING
    WOKEN         there is no room for a claim                CLAIMING      BUSY
    any           a claim left items behind                   CLAIMING      BUSY
    any           a claim left none; all threads are busy     CAUGHT_UP     BUSY
    any           a claim left none; a thread is idle         IDLE_WAITING  IDLE
    CAUGHT_UP     a thread becomes idle later                 IDLE_WAITING  IDLE
    any           a suspect starts, which runs alone          CLAIMING

After a claim that saw suspects, SUSPECTS is sent as well. A claim does not ask for chains that have
no room, so its answer does not say whether their lists have items. The coordinator therefore looks
at the lists itself after each wakeup (list_waiters.py).
"""

from __future__ import annotations

import enum
import socket
import time

from conserver.process import wakeup
from conserver.process.wakeup import WakeupSender
from conserver.queue.calls import Claim

FINISH_FIRST_S = 5.0


class ClaimState(enum.Enum):
    """See the module's docstring."""

    CLAIMING = enum.auto()
    WOKEN = enum.auto()
    CAUGHT_UP = enum.auto()
    IDLE_WAITING = enum.auto()


class ClaimSchedule:
    """The state of the schedule, and its transitions. Used by the worker loop only.

    sender: queues and sends the messages to the coordinator. suspects_wait: whether suspects were
    left on this worker's lists after the last claim.
    """

    def __init__(self, coordinator: socket.socket | None, tick_s: float) -> None:
        """coordinator: the worker's end of the socket; None if there is no coordinator."""
        self._coordinator = coordinator
        self._tick_s = tick_s
        self._tick_at_s = 0.0
        self._finish_first_until_s = 0.0
        self.sender = WakeupSender(coordinator)
        self.state = ClaimState.CLAIMING
        self.suspects_wait = False

    def due_in_s(self, now_s: float) -> float:
        """Seconds until the next claim; 0.0: as soon as there is room."""
        if self.state is ClaimState.CLAIMING or self.state is ClaimState.WOKEN:
            return 0.0
        return max(self._tick_at_s - now_s, 0.0)

    def finishes_first(self, now_s: float) -> bool:
        """Whether the coordinator has ordered the worker to finish its items before it claims, so
        that it can run a suspect.
        """
        return now_s < self._finish_first_until_s

    def receive(self) -> None:
        """Read the coordinator's messages."""
        assert self._coordinator is not None
        while True:
            try:
                message = self._coordinator.recv(64)
            except (BlockingIOError, ConnectionError):
                return
            if not message:
                return
            if wakeup.WAKE in message:
                self.state = ClaimState.WOKEN
                self.sender.woken()
            elif self.state is not ClaimState.WOKEN:
                self.state = ClaimState.CLAIMING
            if wakeup.FINISH_FIRST in message:
                self._finish_first_until_s = time.monotonic() + FINISH_FIRST_S

    def no_room(self) -> None:
        """Note that the worker cannot claim now. If it was woken, the coordinator is told and wakes
        another worker.
        """
        if self.state is ClaimState.WOKEN:
            self.state = ClaimState.CLAIMING
            self._send(wakeup.BUSY)

    def claimed(self, claim: Claim, *, thread_idle: bool) -> None:
        """Note the answer to a claim. thread_idle: a chain thread has no item, even after it."""
        if claim.items:
            self._finish_first_until_s = 0.0
        self.suspects_wait = claim.suspects > 0
        if claim.suspects:
            self._send(wakeup.SUSPECTS)
        if claim.more > 0:
            self.state = ClaimState.CLAIMING
        else:
            self.state = ClaimState.CAUGHT_UP
            self._tick_at_s = time.monotonic() + self._tick_s
            if thread_idle:
                self.thread_idle()
                return
        self._send(wakeup.BUSY)

    def thread_idle(self) -> None:
        """Tell the coordinator that a chain thread has no item, so that it may wake this worker."""
        if self.state is ClaimState.CAUGHT_UP:
            self.state = ClaimState.IDLE_WAITING
            self._send(wakeup.IDLE)

    def suspect_starts(self) -> None:
        """Note that a suspect runs: the next claim is due as soon as it has left. (While a suspect
        is held, HeldItems.is_full prevents claims.)
        """
        self.state = ClaimState.CLAIMING

    def _send(self, message: bytes) -> None:
        self.sender.send_later(message, time.monotonic())
