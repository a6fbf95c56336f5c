"""A circuit breaker: whether a storage may be asked now, and how much at once.

Closed: anything may go. Open: nothing, until its time has come; then one document as a probe. A
probe that succeeds closes it, and what may go at once grows from there fourfold with every success:
a storage that has just come back is not buried under what waited for it. It belongs to one thread.
"""

from __future__ import annotations

import random

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
GROWTH = 4


class Breaker:
    """Times are seconds of any one monotonic clock."""

    def __init__(self, most: int) -> None:
        """most: documents at once while all is well."""
        self._most = most
        self._limit = most
        self._failures = 0
        self._open_until_s = 0.0
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether the last thing that happened was a failure."""
        return self._failures > 0

    def allowed(self, now_s: float) -> int:
        """How many documents may go now: 0 while it is open, 1 for a probe."""
        if not self._failures:
            return self._limit
        return 1 if now_s >= self._open_until_s else 0

    def succeeded(self) -> bool:
        """Count a success. Answers whether this closed it."""
        closed = self._failures > 0
        self._failures = 0
        self._limit = GROWTH if closed else min(self._most, self._limit * GROWTH)
        return closed

    def failed(self, now_s: float, reason: str, after_s: float | None = None) -> bool:
        """Count a failure. Answers whether this opened it."""
        opened = self._failures == 0
        self._failures += 1
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_S)
        pause_s *= random.uniform(0.8, 1.2)  # so that a hundred workers do not probe as one
        self._open_until_s = now_s + max(pause_s, after_s or 0.0)
        self.reason = reason
        return opened

    def retry_after_s(self, now_s: float) -> float:
        """When an item that met it open should come back: behind the next probe, spread out."""
        left_s = max(self._open_until_s - now_s, 0.0)
        return left_s + random.uniform(0.1, 1.0 + left_s / 2)
