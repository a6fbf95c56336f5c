"""Contenders measured in turn, A B A B, and what is said of them: medians, ratios, verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Sample:
    """One run of one contender. cpu_s: seconds by who spent them; "client" is ours or the bare
    loop's, the rest are servers.
    """

    items: int
    wall_s: float
    cpu_s: dict[str, float]
    commands: int = 0
    calls: int = 0


@dataclass
class Result:
    """All samples of one contender."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    def cpu_ms(self, who: str = "client") -> float:
        """CPU per item, in ms, the median of the samples."""
        return self._median(lambda s: s.cpu_s.get(who, 0.0) * 1000 / s.items)

    @property
    def servers_ms(self) -> float:
        """CPU per item of all servers together, in ms."""
        others = {who for sample in self.samples for who in sample.cpu_s} - {"client"}
        return sum(self.cpu_ms(who) for who in others)

    @property
    def per_s(self) -> float:
        """Items a second."""
        return self._median(lambda s: s.items / s.wall_s)

    @property
    def commands(self) -> float:
        """Redis commands per item, those inside scripts included."""
        return self._median(lambda s: s.commands / s.items)

    @property
    def calls(self) -> float:
        """Calls of scripts per item."""
        return self._median(lambda s: s.calls / s.items)

    def _median(self, of: Callable[[Sample], float]) -> float:
        return statistics.median(of(sample) for sample in self.samples)


@dataclass
class Verdict:
    """One measured value beside its target. `value` <= `target`, or >= where `least`."""

    what: str
    value: float
    target: float | None = None
    unit: str = ""
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.least else self.value <= self.target


@dataclass
class Curve:
    """Values of several contenders against one quantity, for a plot."""

    name: str
    across: str
    up: str
    at: list[float]
    lines: dict[str, list[float]]


@dataclass
class Row:
    """One row of the table of targets: what was measured for it, and what that shows."""

    name: str
    title: str
    results: Sequence[Result] = ()
    verdicts: Sequence[Verdict] = ()
    notes: Sequence[str] = ()
    curves: Sequence[Curve] = ()

    def plain(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "name": self.name,
            "title": self.title,
            "results": [
                {"name": result.name, "samples": [asdict(sample) for sample in result.samples]}
                for result in self.results
            ],
            "verdicts": [asdict(v) | {"met": v.met} for v in self.verdicts],
            "notes": list(self.notes),
            "curves": [asdict(curve) for curve in self.curves],
        }


def in_turn(
    contenders: Mapping[str, Callable[[], Sample]], rounds: int, say: Callable[[str], None]
) -> dict[str, Result]:
    """Run every contender once a round: what disturbs the machine disturbs them all."""
    results = {name: Result(name) for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            say(f"{name} ({number + 1}/{rounds})")
            results[name].samples.append(run())
    return results


def median_ms(took_s: Sequence[float]) -> float:
    """The median of durations, in ms."""
    return statistics.median(took_s) * 1000


def percentile_ms(took_s: Sequence[float], percent: float) -> float:
    """A percentile of durations, in ms."""
    ordered = sorted(took_s)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] * 1000
