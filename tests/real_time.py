"""Tests of real times: what happens within a second, on a machine that may stand still for two.

Some promises are times: a woken worker that does not answer within a second is not waited for. A
test of them is a race with the product's own clock, and loses it wherever the machine runs nobody
for that long; then it shows nothing. `@pytest.mark.real_time` has such a test measure how late its
process is served while it runs. If it fails and the machine was late, it is run again.

A failure on a machine that was in time is final at once, as is the last of several.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest
from _pytest.runner import runtestprotocol

LATE_S = 0.1
"""Nobody waits so long for a processor on a machine with one to spare."""

TRIES = 5
_EVERY_S = 0.01


class Lateness:
    """How late this process was served at worst, by a thread that sleeps and looks at the clock."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="lateness", daemon=True)

    def _measure(self) -> None:
        before_s = time.monotonic()
        while not self._enough.wait(_EVERY_S):
            now_s = time.monotonic()
            self.worst_s = max(self.worst_s, now_s - before_s - _EVERY_S)
            before_s = now_s

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._enough.set()
        self._thread.join()


def run(
    item: Any, nextitem: pytest.Item | None, protocol: Callable[..., Any] = runtestprotocol
) -> None:
    """Run a test, and again where it has failed on a machine that was late; report the last run."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports: list[Any] = []
    for left in reversed(range(TRIES)):
        with Lateness() as lateness:
            reports = protocol(item, nextitem=nextitem, log=False)
        if not left or lateness.worst_s < LATE_S or not any(report.failed for report in reports):
            break
        item._initrequest()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
