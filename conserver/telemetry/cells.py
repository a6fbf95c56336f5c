"""Counters, gauges and histograms of one process, in shared memory that outlives the process.

Each child slot has a region of memory for the numbers of its children. A new child continues the
numbers of its predecessor in the slot. Any process can read them at any time. So a counter never
falls when a worker is replaced or killed, and thousands of workers need no more memory than one.

    offset  size    field
    0       u64     bytes in use, this header included; written last when a series is added
    8       u64     series that found no room
    16      ...     one entry per series; each begins at a multiple of 8:
            u32     bytes of the whole entry
            u32     bytes of the key
            ...     key: JSON, [name of the metric, label value ...]; then padding
            f64 ... cells: one for a counter or gauge; for a histogram one per bucket (not
                    cumulative; the last is +Inf), then the sum

Only the slot's child writes, and only one of its threads writes a given series. So there is no lock
and no system call. At worst, a killed child has not added a series, or has counted a value that is
missing in a histogram's sum.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import orjson

from conserver.telemetry.metrics import Metric

REGION_BYTES = 1 << 20
"""The size of one slot's region. Pages that were never written occupy no memory."""

MANY = 12
"""From so many values on, `Histogram.observe_all` sorts them, which is cheaper."""

LABEL_CHARS_MAX = 200
"""A longer label value is cut."""

_HEADER = struct.Struct("=QQ")
_ENTRY = struct.Struct("=II")
_CELL_BYTES = 8


Numbers: TypeAlias = "memoryview[float]"


class Counter:
    """A counter, or a gauge."""

    __slots__ = ("_at", "_cells")

    def __init__(self, cells: Numbers, at: int) -> None:
        self._cells, self._at = cells, at

    def add(self, amount: float = 1.0) -> None:
        """Add `amount`."""
        self._cells[self._at] += amount

    def set(self, value: float) -> None:
        """Set the value of a gauge."""
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
        """Count many values at once, which costs less than one by one. It sorts the list."""
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
        bounds = tuple(float(bound) for bound in metric.buckets)  # Faster to compare than int.
        return Histogram(*self._find(metric, labels, len(bounds) + 2), bounds)

    def close(self) -> None:
        """Release the region. No series may be used after this."""
        self._cells.release()

    def _find(self, metric: Metric, labels: tuple[str, ...], count: int) -> tuple[Numbers, int]:
        """The memory and the index of a series' first cell. If the region is full, the series gets
        memory of its own, which nobody reads.
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
    """All series of a region, and the number of series that found no room. For any process."""
    used, left_out = _HEADER.unpack_from(region)
    copy = memoryview(bytes(region[: min(used, len(region))]))
    found = []
    for key, at, end in _entries(copy):
        name, *labels = orjson.loads(key)
        found.append(Series(name, tuple(labels), tuple(copy[at:end].cast("d"))))
    return found, left_out


def _entries(region: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """The key, the offset of the first cell and the end of each entry."""
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
    """The label value without lone surrogates, cut to LABEL_CHARS_MAX."""
    return label.encode("utf-8", "replace").decode()[:LABEL_CHARS_MAX]
