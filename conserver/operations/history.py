"""Reads the history that coordinators record: the depths of a list, and the rates of its chain."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from conserver.operations.connection import Client
from conserver.queue import history
from conserver.queue.history import COARSE, FIELDS, FINE, POINT_BYTES, Ring

WINDOWS = {"1h": (FINE, 3600), "24h": (FINE, 86_400), "14d": (COARSE, 14 * 86_400)}
POINTS_MAX = 720
"""Most points in a Past. If there are more, several points are merged into their mean."""

Line = list[float | None]


@dataclass(frozen=True, slots=True)
class Past:
    """Evenly spaced points, the oldest first.

    Attributes:
        began_at: the time of the first point, in Unix seconds.
        step_s: the time between two points.
        lines: field (see FIELDS) -> its value in each point; None if a value is unknown.
    """

    window: str
    began_at: int
    step_s: int
    lines: dict[str, Line]

    @property
    def times(self) -> list[int]:
        """The time of each point, in Unix seconds."""
        return [self.began_at + at * self.step_s for at in range(len(self.lines["waiting"]))]

    def of(self, fields: Sequence[str]) -> list[Line]:
        """The values of these fields."""
        return [self.lines[field] for field in fields]


def read(client: Client, name: str, window: str = "1h", now_s: float | None = None) -> Past:
    """Read the history of a list; "" for all lists together.

    Args:
        window: one of WINDOWS.
        now_s: the end of the window, in Unix seconds; None: now.
    """
    ring, span_s = WINDOWS[window]
    last = int(now_s if now_s is not None else time.time()) // ring.step_s
    first = last - span_s // ring.step_s + 1
    raw: bytes = client.get(ring.key(name)) or b""
    raw = raw.ljust(ring.points * POINT_BYTES, b"\0")
    parts = (raw[start : end + 1] for start, end in ring.ranges(first, last))
    points = history.unpack(b"".join(parts), first)
    merged = -(-len(points) // POINTS_MAX)
    grouped = [history.mean_of(points[at : at + merged]) for at in range(0, len(points), merged)]
    lines = {field: [point[place] for point in grouped] for place, field in enumerate(FIELDS)}
    return Past(window, first * ring.step_s, merged * ring.step_s, lines)


def last_hour(
    client: Client, names: Sequence[str], field: str = "waiting", points: int = 60
) -> dict[str, Line]:
    """list -> the maxima of a field over the last hour, in `points` steps, in one round trip."""
    ring, span_s = WINDOWS["1h"]
    count = span_s // ring.step_s
    merged = count // points
    found: dict[str, Line] = {}
    for name, (raw, first) in _newest(client, names, ring, count).items():
        line = history.column(raw, first, field)
        found[name] = [_highest(line[at : at + merged]) for at in range(0, count, merged)]
    return found


def recent(
    client: Client, names: Sequence[str], fields: Sequence[str], points: int = 7
) -> dict[str, tuple[float | None, ...]]:
    """list -> for each field its mean over the last points (for p95_s the maximum).

    The history has rates and durations per chain only: two lists of one chain have the same ones.
    points: how many. The default is the last minute and one point more, because the newest may not
    be written yet.
    """
    found: dict[str, tuple[float | None, ...]] = {}
    for name, (raw, first) in _newest(client, names, FINE, points).items():
        mean = history.mean_of(history.unpack(raw, first))
        found[name] = tuple(mean[FIELDS.index(field)] for field in fields)
    return found


def _newest(
    client: Client, names: Sequence[str], ring: Ring, count: int
) -> dict[str, tuple[bytes, int]]:
    """The newest `count` points of each list, and the number of the first, in one round trip."""
    last = int(time.time()) // ring.step_s
    first = last - count + 1
    ranges = ring.ranges(first, last)
    pipe = client.pipeline(transaction=False)
    for name in names:
        for start, end in ranges:
            pipe.getrange(ring.key(name), start, end)
    answers = iter(pipe.execute(raise_on_error=False))
    found: dict[str, tuple[bytes, int]] = {}
    for name in names:
        raw = b""
        for start, end in ranges:
            part = next(answers)
            raw += (part if isinstance(part, bytes) else b"").ljust(end + 1 - start, b"\0")
        found[name] = (raw, first)
    return found


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
