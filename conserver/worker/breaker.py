"""Breaker: a circuit breaker in front of a storage, with a limit on documents per call.

    closed   calls are made, each with at most `limit` documents
    open     no call is made until the pause has passed; then one document probes the storage

A failed call opens the breaker. Each further failure doubles the pause. A successful call closes
the breaker and sets the limit to GROWTH documents; each further success multiplies the limit by
GROWTH. So a storage that has just come back does not get all waiting documents at once.
"""

from __future__ import annotations

import random

from conserver.process import backoff

FIRST_PAUSE_S = 0.65  # with jitter, half a second on average
LONGEST_PAUSE_S = 20.0
GROWTH = 4


class Breaker:
    """The state of one breaker. The caller passes the time, by time.monotonic()."""

    def __init__(self, max_documents: int) -> None:
        """max_documents: the limit in normal operation."""
        self._max_documents = max_documents
        self._limit = max_documents
        self._failures = 0
        self._open_until_s = 0.0
        self.reason = ""

    @property
    def is_open(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def documents_allowed(self, now_s: float) -> int:
        """How many documents the next call may have; 0 if no call may be made."""
        if not self._failures:
            return self._limit
        return 1 if now_s >= self._open_until_s else 0

    def succeeded(self) -> bool:
        """Count a successful call. Returns whether this closed the breaker."""
        closed = self._failures > 0
        self._failures = 0
        self._limit = GROWTH if closed else min(self._max_documents, self._limit * GROWTH)
        return closed

    def failed(self, now_s: float, reason: str, after_s: float | None = None) -> bool:
        """Count a failed call. Returns whether this opened the breaker.

        Args:
            reason: for people.
            after_s: how long the storage asked to get no calls, if it did.
        """
        opened = self._failures == 0
        self._failures += 1
        pause_s = backoff.backoff_s(self._failures, FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._open_until_s = now_s + max(pause_s, after_s or 0.0)
        self.reason = reason
        return opened

    def retry_after_s(self, now_s: float) -> float:
        """How long to park an item, in seconds: until a random time after the next probe."""
        left_s = max(self._open_until_s - now_s, 0.0)
        return left_s + random.uniform(0.1, 1.0 + left_s / 2)
