"""Counters, gauges and histograms of one process, in shared memory that outlives the process.

Each child slot has a region of memory for the numbers of its children. A child finds what its
predecessor has counted and counts on; any process reads them at any time. So a number never falls
because a worker was replaced or killed, and nothing is left behind by thousands of them.

    offset  size    field
    0       u64     bytes in use, this header included; written last when a series is added
    8       u64     series that found no room
    16      ...     one entry per series, each at a multiple of 8:
            u32     bytes of the whole entry
            u32     bytes of the key
            ...     key: JSON, [name of the metric, label value ...]; then padding
            f64 ... cells: one for a counter or gauge; for a histogram one per bucket (not
                    cumulative; the last is +Inf), then the sum

One process writes, and in it one thread per series; there is no lock and no system call. A killed
writer leaves at worst a series that was not added, or a histogram whose sum lacks one value.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import orjson

from conserver.telemetry.metrics import Metric

REGION_BYTES = 1 << 20
"""The memory of one slot. What was never written to occupies none."""

MANY = 12
"""From so many values on it is cheaper to sort them."""

LABEL_CHARS_MAX = 200
"""A longer label value is cut."""

_HEADER = struct.Struct("=QQ")
_ENTRY = struct.Struct("=II")
_CELL_BYTES = 8


Numbers: TypeAlias = "memoryview[float]"


class Counter:
    """A number that grows, or, as a gauge, is set."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: Numbers, at: int) -> None:
        self._cells, self._at = cells, at

    def add(self, amount: float = 1.0) -> None:
        """Add to it."""
        self._cells[self._at] += amount

    def set(self, value: float) -> None:
        """Set it: for gauges."""
        self._cells[self._at] = value


class Histogram:
    """How many values were in each bucket, and their sum."""

    __slots__ = ("_at", "_bounds", "_cells", "_sum")

    def __init__(self, cells: Numbers, at: int, bounds: tuple[float, ...]) -> None:
        self._cells, self._at, self._bounds = cells, at, bounds
        self._sum = at + len(bounds) + 1

    def observe(self, value: float) -> None:
        """Count a value."""
        cells = self._cells
        cells[self._at + bisect_left(self._bounds, value)] += 1.0
        cells[self._sum] += value

    def observe_all(self, values: list[float]) -> None:
        """Count many values at once, which costs a fraction for each; the list is sorted."""
        if len(values) < MANY:
            for value in values:
                self.observe(value)
            return
        values.sort()
        cells, at, bounds = self._cells, self._at, self._bounds
        below, count, bucket = 0, len(values), bisect_left(bounds, values[0])
        while below < count:
            upto = count
            if bucket < len(bounds):
                upto = bisect_right(values, bounds[bucket], below)
            cells[at + bucket] += upto - below
            below, bucket = upto, bucket + 1
        cells[self._sum] += sum(values)


class Series(NamedTuple):
    """One series as it was read: its metric's name, its label values, its cells."""

    name: str
    labels: tuple[str, ...]
    cells: tuple[float, ...]


class Cells:
    """The writing side: finds or adds series in a region."""

    def __init__(self, region: memoryview) -> None:
        """
        Args:
            region: REGION_BYTES of shared memory, zeros at first.
        """
        self._region = region
        self._cells = region.cast("d")
        self._places = {key: at for key, at, _ in _entries(region)}
        if not self._used:
            self._used = _HEADER.size

    @property
    def _used(self) -> int:
        return int(_HEADER.unpack_from(self._region)[0])

    @_used.setter
    def _used(self, used: int) -> None:
        struct.pack_into("=Q", self._region, 0, used)

    def counter(self, metric: Metric, *labels: str) -> Counter:
        """The series of a counter or gauge with these label values, in the metric's order."""
        return Counter(*self._find(metric, labels, 1))

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        """The series of a histogram."""
        bounds = tuple(float(bound) for bound in metric.buckets)  # Compared in half the time.
        return Histogram(*self._find(metric, labels, len(bounds) + 2), bounds)

    def close(self) -> None:
        """Let the region go; no series may be used any more."""
        self._cells.release()

    def _find(self, metric: Metric, labels: tuple[str, ...], count: int) -> tuple[Numbers, int]:
        """The memory and the place of a series' first cell. One that finds no room gets memory that
        nobody reads.
        """
        if len(labels) != len(metric.labels):
            raise TypeError(f"{metric.name} has the labels {metric.labels}")
        key = orjson.dumps([metric.name, *(_usable(label) for label in labels)])
        at = self._places.get(key)
        if at is not None:
            return self._cells, at // _CELL_BYTES
        used = self._used
        cells_at = _aligned(used + _ENTRY.size + len(key))
        end = cells_at + count * _CELL_BYTES
        if end > len(self._region):
            struct.pack_into("=Q", self._region, 8, _HEADER.unpack_from(self._region)[1] + 1)
            return memoryview(bytearray(count * _CELL_BYTES)).cast("d"), 0
        self._region[used:end] = bytes(end - used)
        _ENTRY.pack_into(self._region, used, end - used, len(key))
        self._region[used + _ENTRY.size : used + _ENTRY.size + len(key)] = key
        self._used = end
        self._places[key] = cells_at
        return self._cells, cells_at // _CELL_BYTES


def read(region: memoryview) -> tuple[list[Series], int]:
    """All series of a region, and how many found no room in it. Any process may ask."""
    used, left_out = _HEADER.unpack_from(region)
    copy = memoryview(bytes(region[: min(used, len(region))]))
    found = []
    for key, at, end in _entries(copy):
        name, *labels = orjson.loads(key)
        found.append(Series(name, tuple(labels), tuple(copy[at:end].cast("d"))))
    return found, left_out


def _entries(region: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Key, place of the first cell and end of each entry."""
    if len(region) < _HEADER.size:
        return
    used = min(_HEADER.unpack_from(region)[0], len(region))
    at = _HEADER.size
    while at + _ENTRY.size <= used:
        size, key_bytes = _ENTRY.unpack_from(region, at)
        if size <= 0 or at + size > used:
            return
        key_at = at + _ENTRY.size
        yield bytes(region[key_at : key_at + key_bytes]), _aligned(key_at + key_bytes), at + size
        at += size


def _aligned(at: int) -> int:
    return -(-at // _CELL_BYTES) * _CELL_BYTES


def _usable(label: str) -> str:
    """A label value that JSON and the exposition formats can carry."""
    return label.encode("utf-8", "replace").decode()[:LABEL_CHARS_MAX]
