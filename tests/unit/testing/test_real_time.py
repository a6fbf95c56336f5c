"""real_time.py: which failed tests are run again, and which are not."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests import real_time


class Item:
    """What pytest gives for a test: it tells how it went, and keeps what was reported of it."""

    nodeid, location = "a", ("b", 1, "c")

    def __init__(self, outcomes: Iterator[bool]) -> None:
        self.outcomes = outcomes
        self.runs = 0
        self.reported: list[Any] = []
        self.ihook = SimpleNamespace(
            pytest_runtest_logstart=lambda **_: None,
            pytest_runtest_logfinish=lambda **_: None,
            pytest_runtest_logreport=lambda report: self.reported.append(report.failed),
        )

    def _initrequest(self) -> None:
        """Fresh fixtures for the next run."""

    def protocol(self, late: bool) -> Any:
        """What runs it, on a machine that is late or in time."""

        def run(item: Any, **_: Any) -> list[Any]:
            self.runs += 1
            if late:
                # Nobody else gets the interpreter meanwhile.
                ctypes.PyDLL(None).usleep(int(2.5 * real_time.LATE_S * 1e6))
            return [SimpleNamespace(failed=next(self.outcomes))]

        return run


@pytest.mark.parametrize(
    ("failures", "late", "runs", "failed"),
    [
        ([False], True, 1, False),
        ([True, True, False], True, 3, False),
        ([True] * real_time.TRIES, True, real_time.TRIES, True),
    ],
)
def test_what_failed_on_a_late_machine_is_run_again(
    failures: list[bool], late: bool, runs: int, failed: bool
) -> None:
    item = Item(iter(failures))
    real_time.run(item, None, item.protocol(late))
    assert (item.runs, item.reported) == (runs, [failed])


def test_what_fails_on_a_machine_that_is_in_time_has_failed() -> None:
    # This machine may be late itself: then any of these runs may be repeated.
    runs = []
    for _ in range(20):
        item = Item(iter([True] * real_time.TRIES))
        real_time.run(item, None, item.protocol(late=False))
        assert item.reported == [True]
        runs.append(item.runs)
    assert 1 in runs
