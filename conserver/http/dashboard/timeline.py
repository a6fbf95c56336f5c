"""Draws an attempt: a bar for each link and storage, proportional to its duration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conserver.queue.stories import Event

WIDTH = 400
_LEAST = 2.0
"""The least width of a bar, so that it is visible."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One event: x and width of its bar within WIDTH. A moment (a checkpoint) has the width 0."""

    event: Event
    x: float
    width: float

    @property
    def took_s(self) -> float:
        """How long it took."""
        return (self.event.to_ms - self.event.from_ms) / 1000


def timeline(events: Sequence[Event]) -> list[Bar]:
    """The bars of an attempt, in the order of their beginning."""
    whole_ms = max((event.to_ms for event in events), default=0) or 1
    bars = []
    for event in sorted(events, key=lambda one: (one.from_ms, one.to_ms)):
        x = min(WIDTH * event.from_ms / whole_ms, WIDTH - _LEAST)
        width = WIDTH * (event.to_ms - event.from_ms) / whole_ms
        moment = event.kind == "checkpoint"
        width = 0.0 if moment else min(max(width, _LEAST), WIDTH - x)
        bars.append(Bar(event, round(x, 1), round(width, 1)))
    return bars
