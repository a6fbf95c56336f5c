"""Throttles: the links that no worker may call for a while, because their server asked for that.

A server that answers a link with 429 and Retry-After means all callers, not one vCon. The link then
calls `context.throttle`, and this worker starts the link for no other item until the time is over.
The worker loop writes the throttle to Redis (rates.py). The answer of every claim lists all
throttles (claim.lua), so that the other workers know of them. An item whose next link is throttled
is parked for that time.

While no link is throttled, this costs nothing: Redis has no entry, and the answers no list.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

LONGEST_S = 3600.0
"""A link is throttled for at most this long. Then a worker calls its server again."""

_KNOWN_S = 1.0
"""A throttle that is prolonged by less than this is not written to Redis again."""


class Throttles:
    """The throttles that one worker knows of. Any thread may call these methods.

    until_s: link -> time until which it is throttled, by `clock`. Callers only read it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.until_s: dict[str, float] = {}
        self._unreported: deque[tuple[str, float]] = deque()

    def meet(self, link: str, after_s: float) -> None:
        """Throttle a link for after_s, as its server asked. `unreported` then has the throttle."""
        until_s = self._clock() + min(after_s, LONGEST_S)
        if until_s > self.until_s.get(link, self._clock()) + _KNOWN_S:
            self.until_s[link] = until_s
            self._unreported.append((link, until_s))

    def learn(self, throttled: Iterable[tuple[str, float]]) -> None:
        """Add the throttles of a claim's answer, as (link, seconds left)."""
        now_s = self._clock()
        for link, left_s in throttled:
            self.until_s[link] = max(self.until_s.get(link, 0.0), now_s + left_s)

    def left_s(self, link: str) -> float:
        """For how many seconds the link is still throttled; 0 if it may be called."""
        return max(self.until_s.get(link, 0.0) - self._clock(), 0.0)

    def unreported(self) -> Iterable[tuple[str, float]]:
        """Take the throttles that are not written to Redis yet, as (link, seconds left)."""
        while self._unreported:
            link, until_s = self._unreported.popleft()
            if (left_s := until_s - self._clock()) > 0:
                yield link, left_s
