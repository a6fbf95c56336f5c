"""Adds up the workers' counters per chain and link, for the history and the status of this host.

These are the counters of /metrics. They are in shared memory per child slot, so they survive the
replacement of a worker, and begin at 0 when the host is started again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from conserver.telemetry import cells, metrics

if TYPE_CHECKING:
    from conserver.process.shared_status import SharedStatus

_FAILED = "dead"


class Counts(NamedTuple):
    """Sums over the workers of this host; empty if the workers do not count (worker/meters.py).

    chains: chain -> [items that did not fail, dead letters, then the count of each bucket of the
        histogram of durations].
    links: chain -> link -> [how often the link ran, total seconds].
    """

    chains: dict[str, list[float]]
    links: dict[str, dict[str, list[float]]]


def read(statuses: Iterable[SharedStatus]) -> Counts:
    """Add up the counters of these workers."""
    size = 2 + len(metrics.ITEM_S.buckets) + 1
    chains: dict[str, list[float]] = defaultdict(lambda: [0.0] * size)
    links: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    for status in statuses:
        series, _ = cells.read(status.metrics)
        for one in series:
            if one.name == metrics.ITEMS.name:
                chain, outcome = one.labels
                chains[chain][int(outcome == _FAILED)] += one.cells[0]
            elif one.name == metrics.ITEM_S.name:
                counts = chains[one.labels[0]]
                for place, value in enumerate(one.cells[: size - 2], 2):
                    counts[place] += value
            elif one.name == metrics.LINK_S.name:
                chain, link = one.labels
                runs = links[chain][link]
                runs[0] += sum(one.cells[:-1])
                runs[1] += one.cells[-1]
    return Counts(dict(chains), {chain: dict(found) for chain, found in links.items()})
