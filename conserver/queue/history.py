"""The recent past of each list, in Redis: rings of points that never grow.

    conserver:history:10s:<list>    string: a ring of the last 24 h, a point every 10 s
    conserver:history:5min:<list>   string: a ring of the last 14 days, a point every 5 min
    conserver:history:writer        string: the host that writes them; expires

The list "" stands for all together. A point begins with its number (Unix seconds divided by
the ring's step, in 32 bits). Eight values of 16 bits follow, each the upper half of an IEEE 754
single: three significant digits, and NaN where nothing is known. So a list takes (8640 + 4032) * 20
= 253,440 bytes, for which Redis allocates 280 KB, however long it exists. Writing one point twice
changes nothing.
"""

from __future__ import annotations

import functools
import math
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from conserver.queue import keys

LISTS_MAX = 500
"""So many lists have a history: the configured ones first."""

FIELDS = ("waiting", "parked", "dead", "in_flight", "done_per_s", "failed_per_s", "p50_s", "p95_s")
_POINT = struct.Struct(">I8H")
POINT_BYTES = _POINT.size
_NAN = 0x7FC0

Values = Sequence[float | None]
"""In the order of FIELDS; None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Ring:
    """One resolution: a point every step_s seconds, the last `points` of them."""

    name: str
    step_s: int
    points: int

    def key(self, name: str) -> str:
        """The key of a list's ring."""
        return keys.history(self.name, name)

    def offset(self, number: int) -> int:
        """Where a point stands in the ring, in bytes."""
        return number % self.points * POINT_BYTES

    def ranges(self, first: int, last: int) -> list[tuple[int, int]]:
        """Where the points `first` to `last` stand, as ranges of bytes: one, or two."""
        start, end = self.offset(first), self.offset(last) + POINT_BYTES - 1
        if start < end:
            return [(start, end)]
        return [(start, self.points * POINT_BYTES - 1), (0, end)]

    @property
    def keep_s(self) -> int:
        """How long a ring is kept after its last point."""
        return self.step_s * self.points


FINE = Ring("10s", 10, 8640)
COARSE = Ring("5min", 300, 4032)


def pack(number: int, values: Values) -> bytes:
    """A point as bytes."""
    return _POINT.pack(number, *map(_short, values))


def unpack(raw: bytes, first: int) -> list[tuple[float | None, ...] | None]:
    """The points in a part of a ring that begins with the point `first`; None for one that is not
    there (any more).
    """
    return [
        tuple(map(_number, shorts)) if known == number else None
        for number, (known, *shorts) in enumerate(_POINT.iter_unpack(raw), first)
    ]


def column(raw: bytes, first: int, field: str) -> list[float | None]:
    """Of the points in such a part, one value each."""
    place = FIELDS.index(field) + 1
    return [
        _number(point[place]) if point[0] == number else None
        for number, point in enumerate(_POINT.iter_unpack(raw), first)
    ]


def mean_of(points: Sequence[Values | None]) -> Values:
    """Averages each field of several points; of p95_s it takes the maximum."""
    there = [point for point in points if point is not None]
    merged: list[float | None] = []
    for place, name in enumerate(FIELDS):
        known = [value for point in there if (value := point[place]) is not None]
        if not known:
            merged.append(None)
        else:
            merged.append(max(known) if name == "p95_s" else sum(known) / len(known))
    return merged


def _short(value: float | None) -> int:
    if value is None or not math.isfinite(value):
        return _NAN
    bits: int = struct.unpack(">I", struct.pack(">f", min(max(value, -3e38), 3e38)))[0]
    return min((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, 0xFFFF)


def _number(short: int) -> float | None:
    value = _numbers()[short]
    return None if math.isnan(value) else value


@functools.cache
def _numbers() -> array[float]:
    """The value of each of the 65,536 possible shorts."""
    found = array("f")
    found.frombytes(b"".join(struct.pack("=I", short << 16) for short in range(1 << 16)))
    return found
