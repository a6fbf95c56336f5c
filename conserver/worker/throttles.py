"""Throttles: links that nobody calls for a while, because their server has asked for that.

A server that answers a link with 429 and Retry-After means all callers, not one vCon. The link says
so (`context.throttle`), and from then on no item of this worker comes to that link; the worker loop
tells Redis (rates.py), and each claim of any worker brings what is throttled (claim.lua). An item
that comes to such a link is parked until its time, without having called it.

A link that was never throttled costs nothing: there is no key, and claims bring nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

LONGEST_S = 3600.0
"""For how long a link is throttled at most: then somebody asks its server again."""

_KNOWN_S = 1.0
"""What prolongs a throttle by less than this is not told again."""


class Throttles:
    """What one worker knows. Any thread may call these.

    until_s: link -> until when nobody may call it, by the clock; to be read only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.until_s: dict[str, float] = {}
        self._unreported: deque[tuple[str, float]] = deque()

    def meet(self, link: str, after_s: float) -> None:
        """The server of this link wants no calls for so long; the others are to be told."""
        until_s = self._clock() + min(after_s, LONGEST_S)
        if until_s > self.until_s.get(link, self._clock()) + _KNOWN_S:
            self.until_s[link] = until_s
            self._unreported.append((link, until_s))

    def learn(self, throttled: Iterable[tuple[str, float]]) -> None:
        """What a claim has brought: links, and for how many seconds each is throttled still."""
        now_s = self._clock()
        for link, left_s in throttled:
            self.until_s[link] = max(self.until_s.get(link, 0.0), now_s + left_s)

    def left_s(self, link: str) -> float:
        """For how long nobody may call this link; 0 if it may be called."""
        if not self.until_s:
            return 0.0
        return max(self.until_s.get(link, 0.0) - self._clock(), 0.0)

    def unreported(self) -> Iterable[tuple[str, float]]:
        """What this worker has met and the others do not know: links, and for how many seconds each
        is throttled still.
        """
        while self._unreported:
            link, until_s = self._unreported.popleft()
            if (left_s := until_s - self._clock()) > 0:
                yield link, left_s
