"""Counts the requests of the API for /metrics, by route template, never by path."""

from __future__ import annotations

from functools import cache

from conserver.telemetry import metrics
from conserver.telemetry.cells import Cells, Counter, Histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})


class HttpMeters:
    """The series of one process. Only the event loop uses them."""

    def __init__(self, region: memoryview) -> None:
        """region: the shared memory for the metrics of this process."""
        self._cells = Cells(region)
        # The caches are bounded by the number of routes, methods and status codes.
        self._counter = cache(self._make_counter)
        self._histogram = cache(self._make_histogram)

    def request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count a request that has ended.

        Args:
            method: as the client sent it; an unknown method is counted as `other`.
            route: the route's template; "" if no route matched.
            status: 0 if no answer was begun.
        """
        method, route = method if method in _METHODS else "other", route or "none"
        self._counter(method, route, status).add()
        self._histogram(method, route).observe(took_s)

    def _make_counter(self, method: str, route: str, status: int) -> Counter:
        return self._cells.counter(metrics.HTTP_REQUESTS, method, route, str(status))

    def _make_histogram(self, method: str, route: str) -> Histogram:
        return self._cells.histogram(metrics.HTTP_S, method, route)
