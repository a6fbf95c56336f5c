"""The wakeup dialogue between a worker and its coordinator: one-byte messages that are only hints.

They travel over the SEQPACKET pair of the worker's slot; a packet may hold several. A lost message
costs at most one TICK_INTERVAL of latency, a duplicate costs one empty claim.

    worker -> coordinator
        I   idle: a chain thread has nothing to do, and my last claim left nothing behind: wake me
            for what comes (sent after every such claim, so that a coordinator that has been
            replaced learns of it)
        B   busy: do not wake me
        S   suspects wait on my lists
    coordinator -> worker
        W   wake: claim now if you have room, then answer idle or busy
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

REPEAT_IDLE_AFTER_S = 0.02


class WakeupSender:
    """Sends a worker's messages to the coordinator. Used by the worker loop's thread alone."""

    def __init__(self, coordinator: socket.socket | None) -> None:
        """coordinator: the worker's end of the pair; None where nobody listens."""
        self._coordinator = coordinator
        self._last = b""
        self._repeat_at_s = 0.0

    def send(self, message: bytes, now_s: float) -> None:
        """Send a message, unless it repeats the last one: it would wake the coordinator for
        nothing. Idle is repeated, but not within REPEAT_IDLE_AFTER_S. A coordinator that does not
        read, or is gone, is ignored.
        """
        if self._coordinator is None:
            return
        if message == self._last and (message == BUSY or now_s < self._repeat_at_s):
            return
        self._last, self._repeat_at_s = message, now_s + REPEAT_IDLE_AFTER_S
        try:
            self._coordinator.send(message)
        except (BlockingIOError, ConnectionError):
            return  # only hints: the worker claims again after TICK_INTERVAL anyway

    def woken(self) -> None:
        """The coordinator has sent WAKE: the next message is its answer, and sent in any case."""
        self._last = b""
