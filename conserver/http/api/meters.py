"""What the API counts of each request, by route template and never by path."""

from __future__ import annotations

from functools import cache

from conserver.telemetry import metrics
from conserver.telemetry.cells import Cells, Counter, Histogram

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})


class HttpMeters:
    """The series of one process; used by its event loop only."""

    def __init__(self, region: memoryview) -> None:
        """region: the memory of the process's slot."""
        self._cells = Cells(region)
        # There are as many as there are routes, methods and status codes.
        self._counter = cache(self._make_counter)
        self._histogram = cache(self._make_histogram)

    def request(self, method: str, route: str, status: int, took_s: float) -> None:
        """A request has ended.

        Args:
            method: what a client has sent; one that HTTP does not have is counted as `other`.
            route: its template, "" where there is none.
            status: 0 where no answer was begun.
        """
        method, route = method if method in _METHODS else "other", route or "none"
        self._counter(method, route, status).add()
        self._histogram(method, route).observe(took_s)

    def _make_counter(self, method: str, route: str, status: int) -> Counter:
        return self._cells.counter(metrics.HTTP_REQUESTS, method, route, str(status))

    def _make_histogram(self, method: str, route: str) -> Histogram:
        return self._cells.histogram(metrics.HTTP_S, method, route)
