"""What a worker tells its steward, when it can spare the time.

The steward wakes on every word, and asks Redis in turn. While the first item of a claim is about to
be done, that would stand in its way: so words wait until the worker has nothing better to do, but
no longer than a few milliseconds, and go out together.
"""

from __future__ import annotations

import socket

PATIENCE_S = 0.002
SAY_AGAIN_S = 0.02


class Telling:
    """Used by the keeper's thread alone."""

    def __init__(self, steward: socket.socket | None) -> None:
        """steward: None where nobody listens."""
        self._steward = steward
        self._words = b""
        self._since_s = 0.0
        self._last = b""
        self._again_at_s = 0.0

    def say(self, word: bytes, now_s: float) -> None:
        """Let a word wait, unless it was the last one: the steward would wake for nothing."""
        if self._steward is None or (word == self._last and now_s < self._again_at_s):
            return
        self._last, self._again_at_s = word, now_s + SAY_AGAIN_S
        if not self._words:
            self._since_s = now_s
        self._words += word

    def rung(self) -> None:
        """The steward waits for an answer, even if it is the last one once more. Words that still
        wait are none: taken for it, they would keep it from ringing another worker.
        """
        self._last, self._words = b"", b""

    def patience_s(self, now_s: float) -> float | None:
        """How much longer the words may wait; None if there are none."""
        return max(self._since_s + PATIENCE_S - now_s, 0.0) if self._words else None

    def speak(self) -> None:
        """Send the words that wait."""
        said, self._words = self._words, b""
        if self._steward is None or not said:
            return
        try:
            self._steward.send(said)
        except (BlockingIOError, ConnectionError):
            return  # the bell is a hint; TICK_INTERVAL is the floor
