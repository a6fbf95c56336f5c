"""Exponential backoff: pure functions that compute how long to wait before another attempt."""

from __future__ import annotations

import random
from collections.abc import Callable

_DOUBLINGS_MAX = 62  # 2**62 exceeds every cap; an unbounded exponent would overflow a float


def ceiling_s(attempt: int, base_s: float, max_s: float) -> float:
    """The backoff after an attempt, without jitter: base_s after attempt 1, doubled with every
    further attempt, but at most max_s.
    """
    doublings = min(max(attempt, 1) - 1, _DOUBLINGS_MAX)
    return min(base_s * 2.0**doublings, max_s)


def backoff_s(
    attempt: int, base_s: float, max_s: float, draw: Callable[[], float] = random.random
) -> float:
    """The backoff with "equal jitter": a random time between half of `ceiling_s` and `ceiling_s`.

    The jitter spreads attempts that failed together. The minimum protects a server that is busy or
    away.

    Args:
        draw: returns a number from 0 to 1.
    """
    ceiling = ceiling_s(attempt, base_s, max_s)
    return ceiling / 2 + ceiling / 2 * draw()
