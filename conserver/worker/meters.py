"""Meters: the metrics of a worker for /metrics (telemetry/metrics.py explains each of them).

Only the worker loop writes metrics, so that each series has one writer. Chain threads leave their
measurements in the inbox (LinkNumbers), writers in their StorageReport. To save time per item, all
series of the configuration are made at the start, and items that end together are counted together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import groupby
from operator import attrgetter

from conserver.process.boot import Boot
from conserver.queue.record import Claimed
from conserver.telemetry import metrics
from conserver.telemetry.cells import Cells
from conserver.worker.inbox import LinkNumbers, StorageReport, WorkerInbox
from conserver.worker.item import Item, OutcomeKind, Route
from storage.contract import Rejected, Stored

_ROUTE = attrgetter("route")
_ENDS = (OutcomeKind.DONE, OutcomeKind.FILTERED, OutcomeKind.CANCELLED)
"""The outcomes of settled items; metrics.OUTCOMES has their values."""
_LINKS_OWN = {
    "audio_seconds": metrics.AUDIO_S,
    "transcription_seconds": metrics.TRANSCRIPTION_S,
}
"""The metric of each counter that a link may add to (link_context.COUNTERS)."""


class _LinkMeters:
    """The series of one link of a chain. took: durations that are not counted yet. Chain threads
    append to this list at any time.
    """

    __slots__ = ("_duration", "_took", "failed")

    def __init__(self, cells: Cells, chain: str, link: str, took: list[float]) -> None:
        self._duration = cells.histogram(metrics.LINK_S, chain, link)
        self.failed = cells.counter(metrics.ATTEMPTS_FAILED, chain, link)
        self._took = took

    def flush(self) -> None:
        """Count the durations in `took`."""
        if self._took:
            took = self._took[:]
            del self._took[: len(took)]
            self._duration.observe_all(took)


class _ChainMeters:
    """The series of one chain."""

    def __init__(self, cells: Cells, chain: str, took: Mapping[str, list[float]]) -> None:
        self.duration = cells.histogram(metrics.ITEM_S, chain)
        self.ends = {o: cells.counter(metrics.ITEMS, chain, o) for o in metrics.OUTCOMES}
        self.dead = {r: cells.counter(metrics.DEAD, chain, r) for r in metrics.REASONS}
        self.parked = {c: cells.counter(metrics.PARKED, chain, c) for c in metrics.CAUSES}
        self.links = {link: _LinkMeters(cells, chain, link, of) for link, of in took.items()}

    def flush(self) -> None:
        """Count the durations of all links of the chain."""
        for link in self.links.values():
            link.flush()


class _StorageMeters:
    """The series of one storage."""

    def __init__(self, cells: Cells, storage: str) -> None:
        self.duration = cells.histogram(metrics.STORAGE_S, storage)
        self.outcomes = {
            outcome: cells.counter(metrics.STORAGE_WRITES, storage, outcome)
            for outcome in metrics.STORAGE_OUTCOMES
        }


class Meters:
    """All series of the worker. Used by the worker loop only."""

    def __init__(
        self,
        cells: Cells,
        slot: int,
        threads: int,
        numbers: LinkNumbers,
        storages: Iterable[str],
    ) -> None:
        self._cells = cells
        self._counted = numbers.counted
        cells.counter(metrics.THREADS, str(slot)).set(threads)
        self._chains = {
            chain: _ChainMeters(cells, chain, took) for chain, took in numbers.took.items()
        }
        self._claimed = cache(partial(self._cells.counter, metrics.CLAIMED))
        self._storages = {name: _StorageMeters(cells, name) for name in storages}
        self._own = cache(lambda name, *labels: self._cells.counter(_LINKS_OWN[name], *labels))

    def claimed(self, items: Sequence[Claimed]) -> None:
        """Count claimed items."""
        lists = [item.list for item in items]
        for name in set(lists):
            self._claimed(name).add(lists.count(name))

    def ended(self, items: Sequence[Item]) -> None:
        """Count items that were settled just now."""
        now_s = time.monotonic()
        for route, group in groupby(items, _ROUTE):
            chain, of_chain = self._chains[route.name], list(group)
            chain.flush()
            chain.duration.observe_all([now_s - item.claimed_at_s for item in of_chain])
            kinds = [item.outcome.kind for item in of_chain if item.outcome is not None]
            for kind in _ENDS:
                chain.ends[kind.value].add(kinds.count(kind))

    def flush(self) -> None:
        """Count the measurements of chain threads. Called once a second, so that the links of a
        long item are counted before the item ends.
        """
        for meters in self._chains.values():
            meters.flush()
        while self._counted:
            chain, link, name, amount = self._counted.popleft()
            self._own(name, chain, link).add(amount)

    def dead_lettered(self, chain: str, reason: str) -> None:
        """Count a dead letter."""
        meters = self._chains[chain]
        meters.flush()
        meters.ends["dead"].add()
        meters.dead.get(reason, meters.dead["other"]).add()

    def parked(self, item: Item, cause: str) -> None:
        """Count a parked item. cause: one of metrics.CAUSES."""
        chain = self._chains[item.route.name]
        chain.flush()
        chain.parked[cause].add()

    def attempt_failed(self, item: Item, link: str) -> None:
        """Count an attempt that ended because a link failed or asked for a retry."""
        if link in self._chains[item.route.name].links:
            self._chains[item.route.name].links[link].failed.add()

    def stored(self, report: StorageReport) -> None:
        """Count the outcomes and durations in a writer's report."""
        storage = self._storages[report.storage]
        for took_s in report.durations:
            storage.duration.observe(took_s)
        others = [outcome for _, outcome in report.outcomes if not isinstance(outcome, Stored)]
        storage.outcomes["stored"].add(len(report.outcomes) - len(others))
        for outcome in others:
            storage.outcomes["rejected" if isinstance(outcome, Rejected) else "unavailable"].add()


def meters_of(
    boot: Boot, routes: Iterable[Route], storages: Iterable[str], inbox: WorkerInbox
) -> Meters | None:
    """The meters of a worker; None if metrics are off. Sets `inbox.numbers`, in which the chain
    threads leave their measurements.
    """
    settings = boot.settings
    if not settings.measures:
        return None
    cells = Cells(boot.status.metrics)
    inbox.numbers = LinkNumbers({route.name: route.names for route in routes})
    return Meters(cells, boot.slot, settings.vcon_concurrency, inbox.numbers, storages)
