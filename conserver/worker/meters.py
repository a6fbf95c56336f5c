"""Meters: what a worker counts for /metrics (telemetry/metrics.py says what each number means).

Only the worker loop counts, so that each series has one writer. Chain threads leave their times
with the item, and writers with their report. All series of the configuration are made at the start;
per item remain a few additions in memory.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter

from conserver.process.boot import Boot
from conserver.queue.record import Claimed
from conserver.telemetry import metrics
from conserver.telemetry.cells import Cells, Counter
from conserver.worker.inbox import StorageReport
from conserver.worker.item import Item, OutcomeKind, Route
from storage.contract import Rejected, Stored

_LIST, _ROUTE = attrgetter("list"), attrgetter("route")
_ENDS = {
    OutcomeKind.DONE: "done",
    OutcomeKind.FILTERED: "filtered",
    OutcomeKind.CANCELLED: "cancelled",
}
_LINKS_OWN = {
    "audio_seconds": metrics.AUDIO_S,
    "transcription_seconds": metrics.TRANSCRIPTION_S,
}
"""What links may count, by the name that they use."""


class _LinkMeters:
    """The series of one link of a chain. took: durations that are not counted yet."""

    __slots__ = ("_duration", "failed", "took")

    def __init__(self, cells: Cells, chain: str, link: str) -> None:
        self._duration = cells.histogram(metrics.LINK_S, chain, link)
        self.failed = cells.counter(metrics.ATTEMPTS_FAILED, chain, link)
        self.took: list[float] = []

    def flush(self) -> None:
        """Count what has gathered."""
        self._duration.observe_all(self.took)
        self.took.clear()


class _ChainMeters:
    """The series of one chain."""

    def __init__(self, cells: Cells, chain: str, links: Iterable[str]) -> None:
        self.duration = cells.histogram(metrics.ITEM_S, chain)
        self.ends = {o: cells.counter(metrics.ITEMS, chain, o) for o in metrics.OUTCOMES}
        self.dead = {r: cells.counter(metrics.DEAD, chain, r) for r in metrics.REASONS}
        self.parked = {c: cells.counter(metrics.PARKED, chain, c) for c in metrics.CAUSES}
        self.links = {link: _LinkMeters(cells, chain, link) for link in links}


class _StorageMeters:
    """The series of one storage."""

    def __init__(self, cells: Cells, storage: str) -> None:
        self.duration = cells.histogram(metrics.STORAGE_S, storage)
        self.outcomes = {
            outcome: cells.counter(metrics.STORAGE_WRITES, storage, outcome)
            for outcome in metrics.STORAGE_OUTCOMES
        }


class Meters:
    """Used by the worker loop only."""

    def __init__(
        self,
        cells: Cells,
        slot: int,
        threads: int,
        routes: Iterable[Route],
        storages: Iterable[str],
    ) -> None:
        self._cells = cells
        cells.counter(metrics.THREADS, str(slot)).set(threads)
        self._chains = {
            route.name: _ChainMeters(cells, route.name, route.names) for route in routes
        }
        self._claimed: dict[str, Counter] = {}
        self._storages = {name: _StorageMeters(cells, name) for name in storages}
        self._own = cache(self._make_own)

    def claimed(self, items: Sequence[Claimed]) -> None:
        """Items were claimed."""
        for name, count in Counts(map(_LIST, items)).items():
            counter = self._claimed.get(name)
            if counter is None:
                counter = self._claimed[name] = self._cells.counter(metrics.CLAIMED, name)
            counter.add(count)

    def ran(self, items: Iterable[Item]) -> None:
        """Chain threads have finished these items."""
        touched: list[_LinkMeters] = []
        route, links = None, {}
        for item in items:
            if item.link_times:
                if item.route is not route:
                    route = item.route
                    links = self._chains[route.name].links
                for link, took_s in item.link_times:
                    meters = links[link]
                    if not meters.took:
                        touched.append(meters)
                    meters.took.append(took_s)
                item.link_times = None
            if item.counted:
                for link, name, amount in item.counted:
                    self._own(item.route.name, link, name).add(amount)
                item.counted = None
        for meters in touched:
            meters.flush()

    def ended(self, items: Iterable[Item]) -> None:
        """Items were settled just now."""
        now_s = time.monotonic()
        for route, of_chain in groupby(items, _ROUTE):
            chain, took, done = self._chains[route.name], [], 0
            for item in of_chain:
                took.append(now_s - item.claimed_at_s)
                if item.outcome is not None:
                    kind = item.outcome.kind
                    if kind is OutcomeKind.DONE:
                        done += 1
                    else:
                        chain.ends[_ENDS[kind]].add()
            chain.duration.observe_all(took)
            if done:
                chain.ends["done"].add(done)

    def dead_lettered(self, chain: str, reason: str) -> None:
        """An item became a dead letter."""
        meters = self._chains[chain]
        meters.ends["dead"].add()
        meters.dead.get(reason, meters.dead["other"]).add()

    def parked(self, item: Item, cause: str) -> None:
        """An item was set aside; cause: one of metrics.CAUSES."""
        self._chains[item.route.name].parked[cause].add()

    def attempt_failed(self, item: Item, link: str) -> None:
        """A link failed, or asked for another attempt."""
        if link in self._chains[item.route.name].links:
            self._chains[item.route.name].links[link].failed.add()

    def stored(self, report: StorageReport) -> None:
        """A writer has answered."""
        storage = self._storages[report.storage]
        for took_s in report.durations:
            storage.duration.observe(took_s)
        for _, outcome in report.outcomes:
            if isinstance(outcome, Stored):
                storage.outcomes["stored"].add()
            else:
                storage.outcomes[
                    "rejected" if isinstance(outcome, Rejected) else "unavailable"
                ].add()

    def _make_own(self, chain: str, link: str, name: str) -> Counter:
        return self._cells.counter(_LINKS_OWN[name], chain, link)


def meters_of(boot: Boot, routes: Iterable[Route], storages: Iterable[str]) -> Meters | None:
    """The meters of a worker; None where nobody can read them."""
    settings = boot.settings
    if not settings.measures:
        return None
    cells = Cells(boot.status.metrics)
    return Meters(cells, boot.slot, settings.vcon_concurrency, routes, storages)
