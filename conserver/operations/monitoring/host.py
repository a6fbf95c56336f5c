"""/metrics: the counters of one host's processes, and the present state of these processes.

Counters and histograms are summed over the child slots of a host, so that no series has a label
that a restart changes. This needs no Redis, so it works while Redis is away.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

import conserver
from conserver.process.shared_status import SharedStatus
from conserver.telemetry import cells, metrics
from conserver.telemetry.cells import Series

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """The state of a host, without its counters.

    Attributes:
        supervisor, workers: as in a heartbeat (coordinator/host_status.py); empty if there is no
            supervisor.
        storages: the storages that chains write to.
        redis_up, round_trip_s: whether Redis gave the last answer, and how long that took; None if
            this process does not watch Redis.
    """

    supervisor: Mapping[str, Any] = field(default_factory=dict)
    workers: Sequence[Mapping[str, Any]] = ()
    storages: Sequence[str] = ()
    redis_up: bool | None = None
    round_trip_s: float | None = None


class HostMetrics:
    """All metric families of one scrape; a prometheus_client collector."""

    def __init__(self, statuses: Iterable[SharedStatus], host: Host) -> None:
        """statuses: the shared statuses whose counters are summed."""
        self._statuses = list(statuses)
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """Read and yield the families."""
        series: list[Series] = []
        left_out = 0
        for status in self._statuses:
            found, without_room = cells.read(status.metrics)
            series += found
            left_out += without_room
        yield from _counted(series)
        yield _single("conserver_metrics_series_left_out", "Series without room.", left_out)
        yield InfoMetricFamily(
            "conserver_build",
            "The version that runs.",
            {"version": conserver.__version__, "python": platform.python_version()},
        )
        yield from _redis(self._host)
        if self._host.supervisor:
            yield from _supervisor(self._host.supervisor)
            yield from _transcribers(self._host.supervisor.get("transcribers", ()))
        yield from _workers(self._host.workers)
        yield from _storages(self._host)


def _counted(series: Iterable[Series]) -> Iterator[Metric]:
    """The families of counters and histograms, summed over the processes."""
    sums: dict[str, dict[Labels, list[float]]] = defaultdict(dict)
    for name, labels, numbers in series:
        known = sums[name].get(labels)
        if known is None:
            sums[name][labels] = list(numbers)
        elif len(known) == len(numbers):
            sums[name][labels] = [a + b for a, b in zip(known, numbers, strict=True)]
    for metric in metrics.COUNTED:
        if metric.kind == "histogram":
            yield _histogram(metric, sums[metric.name])
        else:
            yield _numbers(metric, sums[metric.name])


def _histogram(metric: metrics.Metric, found: Mapping[Labels, Sequence[float]]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*(str(float(bound)) for bound in metric.buckets), "+Inf"]
    for labels, (*counts, total) in sorted(found.items()):
        if len(counts) == len(bounds):
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
    return family


def _numbers(metric: metrics.Metric, found: Mapping[Labels, Sequence[float]]) -> Metric:
    made = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = made(metric.name, metric.help, labels=metric.labels)
    for labels, (number, *_) in sorted(found.items()):
        family.add_metric(labels, number)
    return family


def _single(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


def _redis(host: Host) -> Iterator[Metric]:
    if host.redis_up is not None:
        text = "1 if Redis answered this host's coordinator the last time that it asked."
        yield _single("conserver_redis_up", text, host.redis_up)
    if host.round_trip_s is not None:
        text = "How long the last answer took."
        yield _single("conserver_redis_round_trip_seconds", text, host.round_trip_s)


def _supervisor(told: Mapping[str, Any]) -> Iterator[Metric]:
    yield _single(
        "conserver_host_running",
        "1 while the host takes items, 0 while it shuts down.",
        told.get("state") == "running",
    )
    yield _single(
        "conserver_host_start_time_seconds",
        "When the supervisor started, in seconds since the epoch.",
        float(told.get("started_at", 0)),
    )
    yield _single(
        "conserver_config_reload_success_timestamp_seconds",
        "When the configuration in use was accepted, in seconds since the epoch.",
        float(told.get("configured_at", 0)),
    )
    yield _single(
        "conserver_config_last_reload_successful",
        "0 if the last reload was refused: the log says why, and the older one stays in use.",
        not (told.get("reload") or {}).get("refused"),
    )


def _transcribers(told: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    labels = ("slot", "device")
    up = GaugeMetricFamily(
        "conserver_transcriber_up", "1 if it takes calls, or sleeps until the next.", labels=labels
    )
    restarts = CounterMetricFamily(
        "conserver_transcriber_restarts", "How often it was replaced.", labels=labels
    )
    for one in told:
        values = (str(one["slot"]), str(one["device"]))
        up.add_metric(values, one["state"] not in ("waiting", "starting"))
        restarts.add_metric(values, float(one["restarts"]))
    yield from (up, restarts)


def _workers(workers: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    families: dict[str, Any] = {
        "up": GaugeMetricFamily(
            "conserver_worker_up", "1 if the worker claims items.", labels=("slot",)
        ),
        "restarts": CounterMetricFamily(
            "conserver_worker_restarts", "How often the worker was replaced.", labels=("slot",)
        ),
        "busy": GaugeMetricFamily(
            "conserver_worker_busy_threads", "Items in a link now.", labels=("slot",)
        ),
        "held": GaugeMetricFamily(
            "conserver_worker_held_items", "Items that the worker holds.", labels=("slot",)
        ),
        "memory": GaugeMetricFamily(
            "conserver_worker_memory_bytes", "Resident memory of the worker.", labels=("slot",)
        ),
    }
    for worker in workers:
        slot = (str(worker["slot"]),)
        families["up"].add_metric(slot, worker.get("state") in ("idle", "working"))
        families["restarts"].add_metric(slot, float(worker.get("restarts", 0)))
        families["busy"].add_metric(slot, float(worker.get("busy", 0)))
        families["held"].add_metric(slot, float(worker.get("held", 0)))
        families["memory"].add_metric(slot, float(worker.get("rss_bytes", 0)))
    yield from families.values()


def _storages(host: Host) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "conserver_storage_up",
        "0 if a worker of this host finds the storage unavailable.",
        labels=("storage",),
    )
    for name in host.storages:
        family.add_metric((name,), not any(name in w.get("away", ()) for w in host.workers))
    yield family
