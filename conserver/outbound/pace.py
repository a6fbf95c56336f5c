"""Limits this process's calls of a model to so many per minute, evenly spaced."""

from __future__ import annotations

import functools
import threading
import time

from conserver.errors import Retry
from conserver.outbound import endpoint


def keep(
    url: str,
    model: str,
    requests_per_minute: float,
    patience: endpoint.Patience,
    longest_wait_s: float = 5.0,
) -> None:
    """Wait until the next call of this endpoint and model is allowed.

    Args:
        longest_wait_s: for a longer wait the item is parked, so that the thread can run others.

    Raises:
        Retry: the wait would be longer than `longest_wait_s`.
    """
    wait_s = _pace(url, model).wait_s(60 / requests_per_minute, longest_wait_s)
    if wait_s > longest_wait_s:
        raise Retry(wait_s, f"{model} is asked {requests_per_minute:g} times a minute at most")
    endpoint.pause(wait_s, patience)


class _Pace:
    """The time of the next allowed call of one endpoint and model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0

    def wait_s(self, interval_s: float, longest_wait_s: float) -> float:
        """Reserve the next free time, and return the wait until then in seconds. If the wait is
        longer than `longest_wait_s`, nothing is reserved."""
        with self._lock:
            now = time.monotonic()
            wait_s = max(self._next - now, 0.0)
            if wait_s <= longest_wait_s:
                self._next = now + wait_s + interval_s
            return wait_s


@functools.lru_cache(maxsize=256)
def _pace(url: str, model: str) -> _Pace:
    return _Pace()
