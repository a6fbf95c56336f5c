"""A cache for values that many pages read: each is read once and shared for a short time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

KEPT_MAX = 256
FOR_EVER_S = 1e9
"""A `max_age_s` for values that never change."""

Result = TypeVar("Result")


@dataclass
class _Snapshot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    read_at_s: float = float("-inf")
    value: Any = None
    error: Exception | None = None


class Snapshots:
    """The cached values. Threads that need a value at the same time wait for a single reading."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Snapshot] = OrderedDict()

    def get(self, key: Hashable, max_age_s: float, read: Callable[[], Result]) -> Result:
        """The value of a key, read again if it is older than `max_age_s`.

        An exception of `read` is raised for all callers in that time, so that they do not wait one
        after another while Redis is away.
        """
        with self._lock:
            snapshot = self._kept.setdefault(key, _Snapshot())
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        with snapshot.lock:
            if self._clock() - snapshot.read_at_s > max_age_s:
                snapshot.error = None
                try:
                    snapshot.value = read()
                except Exception as error:
                    snapshot.error = error
                    raise
                finally:
                    snapshot.read_at_s = self._clock()
            if snapshot.error is not None:
                raise snapshot.error
            value: Result = snapshot.value
            return value

    def clear(self) -> None:
        """Drop all values. Called after a change, which the next page must show."""
        with self._lock:
            self._kept.clear()
