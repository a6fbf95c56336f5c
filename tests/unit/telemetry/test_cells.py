"""Counters in shared memory: they go on from process to process, and stay within their memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from conserver.process.shared_status import SharedStatus
from conserver.telemetry import cells
from conserver.telemetry.cells import REGION_BYTES, Cells
from conserver.telemetry.metrics import COUNTED, Metric
from tests.helpers import open_files

HITS = Metric("test_hits", "counter", "Hits.", ("who",))
TOOK = Metric("test_took_seconds", "histogram", "Times.", (), (0.1, 1.0))


@pytest.fixture
def status() -> Iterator[SharedStatus]:
    """The shared status of one slot."""
    made = SharedStatus.create("test")
    yield made
    made.close()


def told(status: SharedStatus) -> dict[tuple[str, ...], tuple[float, ...]]:
    """What is read: (name, labels ...) -> cells."""
    found, left_out = cells.read(status.metrics)
    assert not left_out
    return {(name, *labels): numbers for name, labels, numbers in found}


def count_and_die(status: SharedStatus, times: int) -> None:
    """A child: it counts, and is killed."""
    counter = Cells(status.metrics).counter(HITS, "me")
    for _ in range(times):
        counter.add()
    os.kill(os.getpid(), signal.SIGKILL)


def test_nothing_was_ever_counted(status: SharedStatus) -> None:
    assert told(status) == {}


def test_numbers_of_each_kind(status: SharedStatus) -> None:
    made = Cells(status.metrics)
    made.counter(HITS, "a").add()
    made.counter(HITS, "a").add(2.5)
    made.counter(HITS, "b").set(7)
    times = made.histogram(TOOK)
    for value in (0.05, 0.1, 0.5, 30.0):  # An upper bound belongs to its bucket.
        times.observe(value)
    assert told(status) == {
        ("test_hits", "a"): (3.5,),
        ("test_hits", "b"): (7.0,),
        ("test_took_seconds",): (2.0, 1.0, 1.0, pytest.approx(30.65)),
    }
    made.close()


def test_many_values_at_once_are_the_same_values(status: SharedStatus) -> None:
    made = Cells(status.metrics)
    one = made.histogram(TOOK)
    many = made.histogram(Metric("test_many_seconds", "histogram", "Times.", (), TOOK.buckets))
    values = [0.01 * number for number in range(150)] + [0.1, 1.0, 1e9]
    for length in (0, 1, cells.MANY - 1, cells.MANY, len(values)):
        for value in values[:length]:
            one.observe(value)
        many.observe_all(values[:length])
    first, second = told(status).values()
    assert first == pytest.approx(second)
    assert sum(first[:-1]) > 150
    made.close()


def test_a_successor_counts_on(status: SharedStatus) -> None:
    first = Cells(status.metrics)
    first.counter(HITS, "a").add()
    first.close()
    status.reset()
    second = Cells(status.metrics)
    second.counter(HITS, "a").add()
    assert told(status) == {("test_hits", "a"): (2.0,)}
    second.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_kill_loses_nothing_that_was_counted(status: SharedStatus, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    for _ in range(3):
        child = context.Process(target=count_and_die, args=(status, 1000))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    assert told(status) == {("test_hits", "me"): (3000.0,)}


def test_thousands_of_successors_leave_nothing_behind(status: SharedStatus) -> None:
    """Neither files nor bytes: each finds the series of the one before."""

    blocks, before = 0, open_files()
    for number in range(5000):
        made = Cells(status.metrics)
        made.counter(HITS, "a").add()
        made.histogram(TOOK).observe(0.5)
        made.close()
        if number == 0:
            blocks, before = os.fstat(status.fd).st_blocks, open_files()
    assert os.fstat(status.fd).st_blocks == blocks
    assert not open_files() - before
    assert told(status)["test_hits", "a"] == (5000.0,)


def test_what_finds_no_room_is_told(status: SharedStatus) -> None:
    """And what has found room goes on."""
    made = Cells(status.metrics)
    first = made.counter(HITS, "first")
    entry_bytes = 8 + len('["test_hits",""]') + 160 + 8
    fitting = REGION_BYTES // entry_bytes
    for number in range(2 * fitting):
        made.counter(HITS, f"{number:0160}").add()
    first.add()
    found, left_out = cells.read(status.metrics)
    assert left_out + len(found) == 2 * fitting + 1
    assert fitting - 2 <= len(found) <= fitting + 2
    assert found[0].cells == (1.0,)
    made.close()


def test_label_values_may_be_anything(status: SharedStatus) -> None:
    made = Cells(status.metrics)
    hostile = 'a"b\\c\nd\ud800{}\x00é'
    made.counter(HITS, hostile).add()
    made.counter(HITS, "x" * 100_000).add()
    (_, one), (_, other) = told(status)
    assert one.replace("?", "\ud800") == hostile
    assert len(other) == cells.LABEL_CHARS_MAX
    made.close()


def test_labels_that_do_not_fit_the_metric_are_an_error(status: SharedStatus) -> None:
    made = Cells(status.metrics)
    with pytest.raises(TypeError, match="who"):
        made.counter(HITS)
    made.close()


def test_rubbish_in_the_memory_ends_the_reading(status: SharedStatus) -> None:
    """A reader never fails for what a writer half wrote."""
    made = Cells(status.metrics)
    made.counter(HITS, "a").add()
    made.close()
    status.metrics[0:8] = (2**63).to_bytes(8, "little")
    assert ("test_hits", ("a",)) in {one[:2] for one in cells.read(status.metrics)[0]}
    status.metrics[16:20] = (2**31).to_bytes(4, "little")
    assert cells.read(status.metrics)[0] == []


def test_every_metric_is_named_as_prometheus_has_it() -> None:
    names = [metric.name for metric in COUNTED]
    assert len(set(names)) == len(names)
    for metric in COUNTED:
        assert metric.name.startswith("conserver_")
        assert not metric.name.endswith("_total"), "the exposition adds it"
        assert list(metric.buckets) == sorted(metric.buckets)
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert not {"uuid", "vcon", "error", "pid", "path"} & set(metric.labels)
