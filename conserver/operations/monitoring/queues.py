"""/metrics/queues: the depths and ages of all lists, from Redis. Every process answers the same.

Prometheus should scrape this page from one process only. That is why it is not part of /metrics:
every host would report the same numbers, and a sum over hosts would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from conserver.operations import hosts, overview
from conserver.operations.connection import Client
from conserver.operations.hosts import Host, Throughput
from conserver.operations.overview import ListState

STATES = ("queued", "returned", "suspects", "parked")
MEMORY = ("used_memory", "maxmemory", "evicted_keys")


class QueueMetrics:
    """All metric families of one scrape; a prometheus_client collector. Raises RedisError."""

    def __init__(self, client: Client, configured: Sequence[str]) -> None:
        """configured: the lists of the configuration. All known lists are reported, too."""
        self._client = client
        self._configured = configured

    def collect(self) -> Iterator[Metric]:
        """Read and yield the families."""
        found = overview.overview(self._client, self._configured, Throughput())
        yield from _lists(found.lists)
        yield _parked(found.lists)
        yield from _hosts(self._client, found.hosts)
        yield from _redis(self._client)


def _lists(found: Sequence[ListState]) -> Iterator[Metric]:
    items = _gauge("list_items", "Items of a list that wait, by where.", "list", "state")
    dead = _gauge("dead_letters", "Dead letters of a list.", "list")
    age = _gauge(
        "list_oldest_age_seconds",
        "For how long the oldest item has waited for a worker, at least; parked ones do not count.",
        "list",
    )
    paused = _gauge("list_paused", "1 if an operator has paused the list.", "list")
    served = _gauge("list_served", "1 if a living host serves the list.", "list")
    for one in found:
        for state in STATES:
            if (count := getattr(one, state)) is not None:
                items.add_metric((one.name, state), count)
        if one.dead is not None:
            dead.add_metric((one.name,), one.dead)
        if one.oldest_age_s is not None:
            age.add_metric((one.name,), one.oldest_age_s)
        paused.add_metric((one.name,), one.paused)
        served.add_metric((one.name,), one.served)
    yield from (items, dead, age, paused, served)


def _parked(found: Sequence[ListState]) -> Metric:
    """Parked items by cause, estimated from the items that are due first."""
    family = _gauge(
        "parked_items",
        "Parked items by what they wait for: a retry, a storage, the slot of a rate, a server that"
        " throttles its link, or the later time of their submission. Estimated from the 200 that"
        " are due first; one that is owed to two storages counts for both.",
        "list",
        "cause",
        "storage",
    )
    for one in found:
        if one.waits is None or not one.parked:
            continue
        scale = one.parked / one.waits.sampled
        causes = {
            "retry": one.waits.retries,
            "rate": sum(one.waits.rates.values()),
            "throttled": sum(one.waits.throttled.values()),
            "later": one.waits.later,
        }
        for cause, count in causes.items():
            if count:
                family.add_metric((one.name, cause, ""), round(count * scale))
        for storage, count in one.waits.storages.items():
            family.add_metric((one.name, "storage", storage), round(count * scale))
    return family


def _hosts(client: Client, found: Sequence[Host]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "conserver_in_flight_items",
        "Items that workers of all hosts hold.",
        value=hosts.in_flight(client),
    )
    beating = _gauge(
        "hosts", "Hosts that are registered: consuming, idle (beating only) or silent.", "state"
    )
    states = [
        "consuming" if host.consumes else "idle" if host.beats else "silent" for host in found
    ]
    for state in ("consuming", "idle", "silent"):
        beating.add_metric((state,), states.count(state))
    yield beating


def _redis(client: Client) -> Iterator[Metric]:
    """Memory and evictions of Redis, for alerts if no other exporter watches Redis."""
    info = client.info("memory") | client.info("stats")
    used, most, evicted = (float(info.get(name, 0)) for name in MEMORY)
    yield GaugeMetricFamily("conserver_redis_memory_bytes", "Memory that Redis uses.", value=used)
    yield GaugeMetricFamily(
        "conserver_redis_memory_limit_bytes", "Its maxmemory; 0 is none.", value=most
    )
    yield CounterMetricFamily(
        "conserver_redis_evicted_keys",
        "Keys that Redis evicted since its start.",
        value=evicted,
    )


def _gauge(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"conserver_{name}", help_text, labels=labels)
