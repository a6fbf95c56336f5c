"""Measures how long links took in the last minutes.

Each heartbeat contains sums since the host's start (coordinator/chain_counts.py). LinkTimes keeps
the sums of the last beats and computes differences.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conserver.operations.hosts import Host

WINDOW_S = 300.0

_Key = tuple[str, str]
_Sums = dict[_Key, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class LinkTime:
    """runs: how often a link ran. seconds: how long these runs took in all."""

    runs: float
    seconds: float

    @property
    def mean_s(self) -> float | None:
        """The mean duration of a run; None if there was no run."""
        return self.seconds / self.runs if self.runs else None


@dataclass(frozen=True, slots=True)
class Lately:
    """(chain, link) -> how often and how long the link ran in the last `span_s`."""

    span_s: float
    links: Mapping[_Key, LinkTime]


class LinkTimes:
    """The link times of living hosts over the last WINDOW_S, or since the previous look if that is
    longer ago. For a host that is seen for the first time: since its start.
    """

    def __init__(self) -> None:
        self._told: dict[str, deque[tuple[float, _Sums]]] = {}

    def look(self, hosts: Sequence[Host]) -> Lately:
        """The sums over all living hosts. Links that did not run in that time are left out."""
        total: dict[_Key, list[float]] = defaultdict(lambda: [0.0, 0.0])
        living = [host for host in hosts if host.beats]
        span_s = 0.0
        for host in living:
            told = self._add(host)
            (began_s, before), (now_s, now) = told[0], told[-1]
            span_s = max(span_s, now_s - began_s)
            for key, (runs, seconds) in now.items():
                runs_before, seconds_before = before.get(key, (0.0, 0.0))
                total[key][0] += runs - runs_before
                total[key][1] += seconds - seconds_before
        for gone in self._told.keys() - {host.id for host in living}:
            del self._told[gone]
        return Lately(span_s, {key: LinkTime(*sums) for key, sums in total.items() if sums[0] > 0})

    def _add(self, host: Host) -> deque[tuple[float, _Sums]]:
        """Add the sums of a host's last beat. Returns its sums in the window, the latest last."""
        told = self._told.setdefault(host.id, deque([(host.started_at, {})]))
        if told[-1][0] < host.beat_at:
            sums: _Sums = {
                (chain, link): (float(runs), float(seconds))
                for chain, links in host.links.items()
                for link, (runs, seconds) in links.items()
            }
            told.append((host.beat_at, sums))
        while len(told) > 2 and told[1][0] <= host.beat_at - WINDOW_S:
            told.popleft()
        return told
