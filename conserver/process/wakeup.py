"""What a worker tells its coordinator, when it can spare the time.

The coordinator wakes on every word, and asks Redis in turn. While the first item of a claim is
about to
be done, that would stand in its way: so words wait until the worker has nothing better to do, but
no longer than a few milliseconds, and go out together.
"""

from __future__ import annotations

import socket

PATIENCE_S = 0.002
SAY_AGAIN_S = 0.02


class WakeupSender:
    """Used by the keeper's thread alone."""

    def __init__(self, coordinator: socket.socket | None) -> None:
        """coordinator: None where nobody listens."""
        self._coordinator = coordinator
        self._words = b""
        self._since_s = 0.0
        self._last = b""
        self._again_at_s = 0.0

    def say(self, word: bytes, now_s: float) -> None:
        """Let a word wait, unless it was the last one: the coordinator would wake for nothing."""
        if self._coordinator is None or (word == self._last and now_s < self._again_at_s):
            return
        self._last, self._again_at_s = word, now_s + SAY_AGAIN_S
        if not self._words:
            self._since_s = now_s
        self._words += word

    def rung(self) -> None:
        """The coordinator waits for an answer, even if it is the last one once more. Words that
        still
        wait are none: taken for it, they would keep it from ringing another worker.
        """
        self._last, self._words = b"", b""

    def patience_s(self, now_s: float) -> float | None:
        """How much longer the words may wait; None if there are none."""
        return max(self._since_s + PATIENCE_S - now_s, 0.0) if self._words else None

    def speak(self) -> None:
        """Send the words that wait."""
        said, self._words = self._words, b""
        if self._coordinator is None or not said:
            return
        try:
            self._coordinator.send(said)
        except (BlockingIOError, ConnectionError):
            return  # the bell is a hint; TICK_INTERVAL is the floor
