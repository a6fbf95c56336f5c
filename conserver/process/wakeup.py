"""The wakeup dialogue between a worker and its coordinator: one-byte messages that are only hints.

They travel over the SEQPACKET pair of the worker's slot; a packet may hold several. A lost message
costs at most one TICK_INTERVAL of latency, a duplicate costs one empty claim.

    worker -> coordinator
        I   idle: a chain thread of mine is free, and the lists were empty after my last claim: wake
            me for the next item (sent again after each such claim, in case the coordinator is new)
        B   busy: do not wake me
        S   suspects wait on my lists
    coordinator -> worker
        W   wake: claim, if you have room; then answer I or B
        E   empty: finish what you hold, then claim: suspects wait, and only a worker that holds
            nothing may run one
"""

from __future__ import annotations

import socket

IDLE = b"I"
BUSY = b"B"
SUSPECTS = b"S"

WAKE = b"W"
EMPTY = b"E"

DELAY_S = 0.002
REPEAT_AFTER_S = 0.02


class WakeupSender:
    """Collects a worker's messages to the coordinator and sends them together a little later.

    Every packet wakes the coordinator, which then queries Redis. That would delay the worker while
    the first item of a claim is about to finish. Messages therefore wait until the worker has
    nothing better to do, but for at most DELAY_S.

    Used by the worker loop's thread alone.
    """

    def __init__(self, coordinator: socket.socket | None) -> None:
        """coordinator: the worker's end of the pair; None where nobody listens."""
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
        """The coordinator has sent WAKE. The next message is sent even if it repeats the last one,
        and unsent messages are discarded: the coordinator would mistake them for the answer, and
        not wake another worker.
        """
        self._last, self._pending = b"", b""

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until the queued messages must be sent, 0.0 if they are late; None: none wait."""
        return max(self._pending_since_s + DELAY_S - now_s, 0.0) if self._pending else None

    def flush(self) -> None:
        """Send the queued messages. A coordinator that does not read, or is gone, is ignored."""
        pending, self._pending = self._pending, b""
        if self._coordinator is None or not pending:
            return
        try:
            self._coordinator.send(pending)
        except (BlockingIOError, ConnectionError):
            return  # only hints: the worker claims again after TICK_INTERVAL anyway
