"""How long to wait before trying again. Pure arithmetic: no clock, no sleeping, no state."""

from __future__ import annotations

import random
from collections.abc import Callable

_DOUBLINGS_MAX = 62  # Beyond, a float still doubles but no cap is that large.


def ceiling_s(attempt: int, base_s: float, max_s: float) -> float:
    """The longest wait after attempt `attempt` (1 is the first): it doubles up to `max_s`."""
    doublings = min(max(attempt, 1) - 1, _DOUBLINGS_MAX)
    return min(base_s * 2.0**doublings, max_s)


def backoff_s(
    attempt: int, base_s: float, max_s: float, draw: Callable[[], float] = random.random
) -> float:
    """The wait after attempt `attempt`: anything from nothing to the ceiling ("full jitter").

    What failed together must not come back together, and the whole range spreads it best. `draw`
    gives numbers from 0 to 1.
    """
    return ceiling_s(attempt, base_s, max_s) * draw()


def paced_s(
    attempt: int, base_s: float, max_s: float, draw: Callable[[], float] = random.random
) -> float:
    """As `backoff_s`, but at least half the ceiling ("equal jitter").

    For what nobody else waits on and what must not be asked again at once: a crashed process, a
    storage that is away, a server that said it is too busy.
    """
    ceiling = ceiling_s(attempt, base_s, max_s)
    return ceiling / 2 + ceiling / 2 * draw()
