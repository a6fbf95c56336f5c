"""Depths of lists, rates and durations of chains over time, in rings of fixed size in Redis.

    conserver:history:10s:<list>    string: a ring of the last 24 h, a point every 10 s
    conserver:history:5min:<list>   string: a ring of the last 14 days, a point every 5 min
    conserver:history:writer        string: the host that writes the rings; expires

The list name "" stands for the sum of all lists. A point begins with its number (Unix seconds
divided by the ring's step, in 32 bits). Eight values of 16 bits follow (FIELDS), each the upper
half of an IEEE 754 single: three significant digits, or NaN if the value is unknown. So each list
takes (8640 + 4032) * 20 = 253,440 bytes, for which Redis allocates 280 KB. Writing the same point
twice changes nothing.
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
"""Most lists that have a history; the configured lists come first."""

ALL_LISTS = ""
"""The name under which the sum of all lists is kept."""

FIELDS = ("waiting", "parked", "dead", "in_flight", "done_per_s", "failed_per_s", "p50_s", "p95_s")
_POINT = struct.Struct(">I8H")
POINT_BYTES = _POINT.size
_NAN = 0x7FC0

Values = Sequence[float | None]
"""The values of a point in the order of FIELDS; None if a value is unknown."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A kind of ring buffer: it keeps the last `points` points, one for every `step_s` seconds."""

    name: str
    step_s: int
    points: int

    def key(self, name: str) -> str:
        """The Redis key of this ring for a list."""
        return keys.history(self.name, name)

    def offset(self, number: int) -> int:
        """The offset of a point in the ring, in bytes."""
        return number % self.points * POINT_BYTES

    def ranges(self, first: int, last: int) -> list[tuple[int, int]]:
        """The byte ranges of the points `first` to `last`: one, or two if the ring wraps around."""
        start, end = self.offset(first), self.offset(last) + POINT_BYTES - 1
        if start < end:
            return [(start, end)]
        return [(start, self.points * POINT_BYTES - 1), (0, end)]

    @property
    def keep_s(self) -> int:
        """How long Redis keeps a ring after its last point was written."""
        return self.step_s * self.points


FINE = Ring("10s", 10, 8640)
COARSE = Ring("5min", 300, 4032)


def pack(number: int, values: Values) -> bytes:
    """Encode a point as bytes."""
    return _POINT.pack(number, *map(_short, values))


def unpack(raw: bytes, first: int) -> list[tuple[float | None, ...] | None]:
    """Parse bytes of a ring that begin with the point number `first`. None for a point that was not
    written, or was overwritten.
    """
    return [
        tuple(map(_number, shorts)) if known == number else None
        for number, (known, *shorts) in enumerate(_POINT.iter_unpack(raw), first)
    ]


def column(raw: bytes, first: int, field: str) -> list[float | None]:
    """Parse one field of the points in bytes of a ring that begin with the point number `first`."""
    place = FIELDS.index(field) + 1
    return [
        _number(point[place]) if point[0] == number else None
        for number, point in enumerate(_POINT.iter_unpack(raw), first)
    ]


def mean_of(points: Sequence[Values | None]) -> Values:
    """The mean of each field over several points; for p95_s the maximum."""
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
    """A table of the values of all 65,536 shorts."""
    found = array("f")
    found.frombytes(b"".join(struct.pack("=I", short << 16) for short in range(1 << 16)))
    return found
