"""What the workers of this host have counted per chain, for the history (history.py).

The numbers are those of /metrics: they live in the slots, so they go on when a worker is replaced,
and fall only when the host is started again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from conserver.telemetry import cells, metrics

if TYPE_CHECKING:
    from conserver.process.shared_status import SharedStatus

_FAILED = "dead"

ChainCounts = dict[str, list[float]]
"""chain -> items that ended well, dead letters, then how many took how long: the cells of the
histogram's buckets.
"""


def read(statuses: Iterable[SharedStatus]) -> ChainCounts:
    """The sums over these workers."""
    size = 2 + len(metrics.ITEM_S.buckets) + 1
    found: ChainCounts = defaultdict(lambda: [0.0] * size)
    for status in statuses:
        series, _ = cells.read(status.metrics)
        for one in series:
            if one.name == metrics.ITEMS.name:
                chain, outcome = one.labels
                found[chain][int(outcome == _FAILED)] += one.cells[0]
            elif one.name == metrics.ITEM_S.name:
                counts = found[one.labels[0]]
                for place, value in enumerate(one.cells[: size - 2], 2):
                    counts[place] += value
    return dict(found)
