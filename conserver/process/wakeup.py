"""The wakeup dialogue between a worker and its coordinator: one-byte messages that are only hints.

The messages go through the SEQPACKET pair of the worker's slot. A packet may hold several messages.
A lost message costs at most one TICK_INTERVAL of latency; a duplicate costs one empty claim.

    worker -> coordinator
        I   idle: a chain thread has nothing to do, and my last claim left no item behind. Wake me
            when an item arrives. (Repeated after each such claim, because a new coordinator does
            not know which workers are idle.)
        B   busy: do not wake me
        S   suspects wait on my lists
    coordinator -> worker
        W   wake: claim if you have room, then answer I or B
        F   finish first: finish the items that you hold before you claim again. Suspects wait, and
            only a worker that holds no item may run a suspect.
"""

from __future__ import annotations

import socket

IDLE = b"I"
BUSY = b"B"
SUSPECTS = b"S"

WAKE = b"W"
FINISH_FIRST = b"F"

DELAY_S = 0.002
REPEAT_AFTER_S = 0.02


class WakeupSender:
    """Collects a worker's messages to the coordinator, and sends them together a little later.

    Every packet wakes the coordinator, which then queries Redis and takes CPU time from the worker,
    just when the first item of a claim runs. Messages therefore wait for DELAY_S.
    A worker that holds no item sends them at once (Intake.tell_coordinator).

    Used by the worker loop's thread alone.
    """

    def __init__(self, coordinator: socket.socket | None) -> None:
        """coordinator: the worker's end of the socket pair; None if there is no coordinator."""
        self._coordinator = coordinator
        self._pending = b""
        self._pending_since_s = 0.0
        self._last = b""
        self._repeat_at_s = 0.0

    def send_later(self, message: bytes, now_s: float) -> None:
        """Queue a message, unless it would wake the coordinator for nothing: BUSY after BUSY, or a
        repetition of the last message within REPEAT_AFTER_S.
        """
        if self._coordinator is None:
            return
        if message == self._last and (message == BUSY or now_s < self._repeat_at_s):
            return
        self._last, self._repeat_at_s = message, now_s + REPEAT_AFTER_S
        if not self._pending:
            self._pending_since_s = now_s
        self._pending += message

    def woken(self) -> None:
        """Prepare the answer to a WAKE. The next message is sent even if it repeats the last one.
        Unsent messages are discarded: the coordinator would take them for the answer.
        """
        self._last, self._pending = b"", b""

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until the queued messages must be sent; None if no message is queued."""
        return max(self._pending_since_s + DELAY_S - now_s, 0.0) if self._pending else None

    def flush(self) -> None:
        """Send the queued messages. Drop them if the coordinator does not read, or is gone."""
        pending, self._pending = self._pending, b""
        if self._coordinator is None or not pending:
            return
        try:
            self._coordinator.send(pending)
        except (BlockingIOError, ConnectionError):
            return  # only hints: the worker claims again after TICK_INTERVAL anyway
