"""Meters: what a worker's numbers are after items have come, run and gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from conserver.process.shared_status import SharedStatus
from conserver.telemetry import cells, metrics
from conserver.telemetry.cells import Cells
from conserver.worker.inbox import LinkNumbers, StorageReport
from conserver.worker.item import ChainOutcome, OutcomeKind
from conserver.worker.meters import Meters, meters_of
from storage.contract import Rejected, Stored, Unavailable

ROUTE: Any = SimpleNamespace(name="main", names=("tag", "hear"))


@pytest.fixture
def status() -> Iterator[SharedStatus]:
    """The shared status of one slot."""
    made = SharedStatus.create("test")
    yield made
    made.close()


@pytest.fixture
def numbers() -> LinkNumbers:
    """What chain threads leave: of one chain with two links."""
    return LinkNumbers({ROUTE.name: ROUTE.names})


@pytest.fixture
def meters(status: SharedStatus, numbers: LinkNumbers) -> Iterator[Meters]:
    """Meters of a worker with that chain and one storage."""
    made = Cells(status.metrics)
    yield Meters(made, slot=1, threads=4, numbers=numbers, storages=["s3"])
    made.close()


def told(status: SharedStatus, metric: metrics.Metric, *labels: str) -> list[float]:
    """The cells of one series."""
    for series in cells.read(status.metrics)[0]:
        if (series.name, series.labels) == (metric.name, labels):
            return list(series.cells)
    raise AssertionError(f"no series {metric.name} {labels}")


def item(kind: OutcomeKind = OutcomeKind.DONE, **fields: Any) -> Any:
    """As much of an item as meters look at."""
    known: dict[str, Any] = {"claimed_at_s": 0.0, "list": "in"}
    return SimpleNamespace(route=ROUTE, outcome=ChainOutcome(kind), **{**known, **fields})


def test_every_series_is_there_before_anything_happens(
    meters: Meters, status: SharedStatus
) -> None:
    """So that the first failure is an increase, and not a series without a past."""
    assert told(status, metrics.ITEMS, "main", "dead") == [0]
    assert told(status, metrics.DEAD, "main", "poison") == [0]
    assert told(status, metrics.ATTEMPTS_FAILED, "main", "hear") == [0]
    assert told(status, metrics.STORAGE_WRITES, "s3", "unavailable") == [0]
    assert told(status, metrics.THREADS, "1") == [4]
    assert meters is not None


def test_claims_by_list(meters: Meters, status: SharedStatus) -> None:
    meters.claimed([item(), item(list="other"), item()])
    assert told(status, metrics.CLAIMED, "in") == [2]
    assert told(status, metrics.CLAIMED, "other") == [1]


def test_runs_of_links(meters: Meters, status: SharedStatus, numbers: LinkNumbers) -> None:
    numbers.took["main"]["tag"] += [0.004, 0.02]
    numbers.took["main"]["hear"] += [2.0]
    numbers.counted += [("main", "hear", "audio_seconds", 30.0)]
    numbers.counted += [("main", "hear", "audio_seconds", 12.5)]
    for _ in range(2):  # What was counted is not counted again.
        meters.flush()
    *buckets, total = told(status, metrics.LINK_S, "main", "tag")
    assert sum(buckets) == 2
    assert total == pytest.approx(0.024)
    assert told(status, metrics.LINK_S, "main", "hear")[-1] == 2.0
    assert told(status, metrics.AUDIO_S, "main", "hear") == [42.5]


@pytest.mark.parametrize("end", ["ended", "parked", "dead_lettered"])
def test_the_runs_of_an_item_are_counted_at_the_latest_with_its_end(
    meters: Meters, status: SharedStatus, numbers: LinkNumbers, end: str
) -> None:
    numbers.took["main"]["tag"] += [0.004]
    {
        "ended": lambda: meters.ended([item()]),
        "parked": lambda: meters.parked(item(), "retry"),
        "dead_lettered": lambda: meters.dead_lettered("main", "failed"),
    }[end]()
    assert sum(told(status, metrics.LINK_S, "main", "tag")[:-1]) == 1


def test_runs_that_end_while_others_are_counted(
    meters: Meters, status: SharedStatus, numbers: LinkNumbers
) -> None:
    """Chain threads go on while the worker loop counts: none is lost, none is counted twice."""
    took, runs = numbers.took["main"]["tag"], 20_000

    def run() -> None:
        for _ in range(runs):
            took.append(0.5)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        meters.flush()
    for thread in threads:
        thread.join()
    meters.flush()
    *buckets, total = told(status, metrics.LINK_S, "main", "tag")
    assert sum(buckets) == 3 * runs
    assert total == 1.5 * runs


def test_ends(meters: Meters, status: SharedStatus) -> None:
    meters.ended([item(), item(), item(OutcomeKind.FILTERED), item(OutcomeKind.CANCELLED)])
    meters.dead_lettered("main", "failed")
    meters.dead_lettered("main", "something new")
    found = {outcome: told(status, metrics.ITEMS, "main", outcome) for outcome in metrics.OUTCOMES}
    assert found == {"done": [2], "filtered": [1], "cancelled": [1], "dead": [2]}
    assert told(status, metrics.DEAD, "main", "failed") == [1]
    assert told(status, metrics.DEAD, "main", "other") == [1]
    assert sum(told(status, metrics.ITEM_S, "main")[:-1]) == 4


def test_what_is_set_aside_and_what_has_failed(meters: Meters, status: SharedStatus) -> None:
    meters.parked(item(), "storage")
    meters.attempt_failed(item(), "hear")
    meters.attempt_failed(item(), "")  # Its document could not be read: no link is at fault.
    assert told(status, metrics.PARKED, "main", "storage") == [1]
    assert told(status, metrics.ATTEMPTS_FAILED, "main", "hear") == [1]


def test_answers_of_a_storage(meters: Meters, status: SharedStatus) -> None:
    outcomes: Any = [(item(), Stored()), (item(), Rejected("no")), (item(), Unavailable("away"))]
    meters.stored(StorageReport("s3", outcomes, durations=[0.02, 0.03]))
    for outcome in metrics.STORAGE_OUTCOMES:
        assert told(status, metrics.STORAGE_WRITES, "s3", outcome) == [1]
    assert sum(told(status, metrics.STORAGE_S, "s3")[:-1]) == 2


@pytest.mark.parametrize(("measures", "made"), [(True, True), (False, False)])
def test_without_a_port_there_are_none(status: SharedStatus, measures: bool, made: bool) -> None:
    settings = SimpleNamespace(measures=measures, vcon_concurrency=1)
    boot: Any = SimpleNamespace(settings=settings, status=status, slot=1)
    inbox: Any = SimpleNamespace(numbers=None)
    found = meters_of(boot, [ROUTE], ["s3"], inbox)
    assert (inbox.numbers is not None) is made
    assert (found is not None) is made
    if found is not None:
        found._cells.close()
    assert bool(cells.read(status.metrics)[0]) is made
