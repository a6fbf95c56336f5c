"""ClaimSchedule: when a worker claims, for which chains, and what it tells the coordinator.

The coordinator waits at the lists (BLMOVE) for all workers of the host, and wakes an idle worker
when an item arrives (process/wakeup.py has the messages). A wakeup can get lost. So a worker claims
again when TICK_INTERVAL has passed since its last claim. This moment is the tick.

    state         meaning                                         claims for
    CLAIMING      items may wait (the state at the start)         every chain with room
    WOKEN         as CLAIMING; the worker owes the coordinator    every chain with room
                  IDLE or BUSY
    CAUGHT_UP     the last claim left no item behind              before the tick: chains that the
                                                                  last claim did not ask for (their
                                                                  lists may have items); at the
                                                                  tick: every chain with room
    IDLE_WAITING  as CAUGHT_UP; the coordinator may wake this     as CAUGHT_UP
                  worker

    in state      event                                       then          sends
    any           WAKE received                               WOKEN
    not WOKEN     FINISH_FIRST received                       CLAIMING
    WOKEN         the worker has no room                      CLAIMING      BUSY
    any           a claim left items behind                   CLAIMING      BUSY
    any           a claim took a suspect, which runs alone    CLAIMING      BUSY
    any           a claim left none; all threads are busy     CAUGHT_UP     BUSY
    any           a claim left none; a thread is idle         IDLE_WAITING  IDLE
    CAUGHT_UP     a thread becomes idle later                 IDLE_WAITING  IDLE

After a claim that saw suspects, SUSPECTS is sent as well. The answer to a claim tells nothing
about chains that the claim did not ask for. So the coordinator looks at the lists itself after each
wakeup (list_waiters.py).
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
        self._tick_at_s = 0.0  # The past: every chain may have items.
        self._emptied: frozenset[str] = frozenset()
        self._has_room = True
        self._finish_first_until_s = 0.0
        self.sender = WakeupSender(coordinator)
        self.state = ClaimState.CLAIMING
        self.suspects_wait = False

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until the next claim; None: as soon as there is room."""
        tick_s = max(self._tick_at_s - now_s, 0.0)
        return tick_s if tick_s or self._has_room else None

    def emptied(self, now_s: float) -> frozenset[str]:
        """The chains from which the last claim took all that it could; none after a tick or a
        wakeup.
        """
        return self._emptied if now_s < self._tick_at_s else frozenset()

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
            self._tick_at_s = 0.0
            if wakeup.WAKE in message:
                self.state = ClaimState.WOKEN
                self.sender.woken()
            elif self.state is not ClaimState.WOKEN:
                self.state = ClaimState.CLAIMING
            if wakeup.FINISH_FIRST in message:
                self._finish_first_until_s = time.monotonic() + FINISH_FIRST_S

    def no_claim(self, *, has_room: bool = True, thread_idle: bool = False) -> None:
        """Note that the worker claims nothing now.

        Args:
            has_room: True: the last claim has emptied all lists that the worker would ask for.
                False: no chain has room.
            thread_idle: a chain thread has no item, and could start one that arrives.
        """
        self._has_room = has_room
        if self.state is ClaimState.WOKEN:
            self.state = ClaimState.CLAIMING
            self._send(wakeup.BUSY)
        elif self.state is ClaimState.CAUGHT_UP and thread_idle:
            self.state = ClaimState.IDLE_WAITING
            self._send(wakeup.IDLE)

    def claimed(self, claim: Claim, asked: frozenset[str], *, thread_idle: bool) -> None:
        """Note the answer to a claim.

        Args:
            asked: the chains that it asked for.
            thread_idle: a chain thread has no item, even after the claim.
        """
        self._has_room = True
        if claim.items:
            self._finish_first_until_s = 0.0
        self.suspects_wait = claim.suspects > 0
        if claim.suspects:
            self._send(wakeup.SUSPECTS)
        took_suspect = bool(claim.items) and claim.items[0].suspect
        if claim.more > 0 or took_suspect:
            self.state, self._tick_at_s = ClaimState.CLAIMING, 0.0
            self._send(wakeup.BUSY)
            return
        self._tick_at_s, self._emptied = time.monotonic() + self._tick_s, asked
        self.state = ClaimState.IDLE_WAITING if thread_idle else ClaimState.CAUGHT_UP
        self._send(wakeup.IDLE if thread_idle else wakeup.BUSY)

    def _send(self, message: bytes) -> None:
        self.sender.send_later(message, time.monotonic())
