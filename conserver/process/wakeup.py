"""The wakeup dialogue between a worker and its coordinator: one-byte messages that are only hints.

They travel over the SEQPACKET pair of the worker's slot; a packet may hold several. A lost message
costs at most one TICK_INTERVAL of latency, a duplicate costs one empty claim.

    worker -> coordinator
        I   idle: my claim came back empty, and I want work (sent after every empty claim, so that a
            coordinator that has been replaced learns of it)
        P   passed: as I, but some of my chains have reached their `concurrency`, so the item I was
            woken for may still wait: wake another idle worker for it
        A   answered: my claim returned items
        M   more: as A, and further items wait: wake another idle worker for them
        B   busy: do not wake me; and if I was woken, wake another one
        S   suspects wait on my lists (sent beside any other message)
    coordinator -> worker
        W   wake: claim now
        E   empty: finish what you hold, then claim: suspects wait, and only a worker that holds
            nothing may run one
"""

from __future__ import annotations

import socket

IDLE = b"I"
PASSED = b"P"
ANSWERED = b"A"
MORE = b"M"
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
        """Queue a message. One that repeats the last one within REPEAT_AFTER_S is dropped: it
        would wake the coordinator for nothing.
        """
        if self._coordinator is None or (message == self._last and now_s < self._repeat_at_s):
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
