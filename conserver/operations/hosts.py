"""Reads hosts and their workers from the status that heartbeats write (coordinator/host_status.py).

From the same status it also finds which storages are away, how fast the hosts do items, and whether
a host of a machine takes items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from conserver.operations.connection import Client
from conserver.queue import keys, lookup

WORKING_STATES = frozenset({"idle", "working"})
_RATE_WINDOW_S = 15.0


@dataclass(frozen=True, slots=True)
class Host:
    """One supervisor and its workers, as of its last beat.

    Attributes:
        started_at: seconds since the epoch, by the host's clock.
        beat_at: time of the last beat, in seconds since the epoch by Redis's clock.
        lease_s: the host counts as dead if its last beat is older than this.
        storages: the storages that its chains write to.
        egress: the lists to which its chains push the uuids of finished items.
        workers, supervisor: as coordinator/host_status.py describes them.
        away: storage that is away for at least one of its workers -> since when (Unix seconds).
        away_reasons: storage that is away -> why.
        lost: a loss of data in Redis, as coordinator/host_status.py describes it; empty if the host
            saw none.
        transcribers: as supervisor/transcribers.py describes them; empty if the workers hold the
            models themselves, or no link transcribes.
        page_readers: as supervisor/page_readers.py describes them; empty if no link reads pages.
        links: chain -> link -> [how often the link ran, total seconds] since the host started;
            empty if its workers do not count (worker/meters.py).
        consumes: whether the host claims items: it beats, is running, serves a list, and has a
            worker that claims.
    """

    id: str
    name: str
    version: str
    pid: int
    state: str
    started_at: float
    beat_at: float
    beat_age_s: float
    lease_s: float
    lists: list[str]
    storages: list[str]
    workers: list[dict[str, Any]]
    egress: list[str] = field(default_factory=list)
    away: dict[str, float] = field(default_factory=dict)
    away_reasons: dict[str, str] = field(default_factory=dict)
    lost: dict[str, Any] = field(default_factory=dict)
    transcribers: list[dict[str, Any]] = field(default_factory=list)
    page_readers: list[dict[str, Any]] = field(default_factory=list)
    supervisor: dict[str, Any] = field(default_factory=dict)
    links: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    consumes: bool = field(init=False)

    def __post_init__(self) -> None:
        able = any(worker.get("state") in WORKING_STATES for worker in self.workers)
        consumes = self.beats and self.state == "running" and bool(self.lists) and able
        object.__setattr__(self, "consumes", consumes)

    @property
    def beats(self) -> bool:
        """Whether the host's last beat is younger than its lease."""
        return self.beat_age_s < self.lease_s


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit breakers of one storage.

    Attributes:
        open: how many workers have an open breaker for the storage.
        workers: how many workers write to the storage.
        since: when the first of these breakers opened, in Unix seconds; None if none is open.
        reason: the storage's last error; "" if no breaker is open.
    """

    storage: str
    open: int
    workers: int
    since: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a host of the machine `host` takes items; if not, `reason` says why."""

    healthy: bool
    host: str
    reason: str


def read(client: Client) -> list[Host]:
    """All registered hosts, sorted by name. Ages are by Redis's clock."""
    ids = lookup.hosts(client)
    pipe = client.pipeline(transaction=False)
    pipe.time()
    for host in ids:
        pipe.hgetall(keys.host(host))
    (seconds, micros), *hashes = pipe.execute()
    now_s = seconds + micros / 1e6
    hosts = [_host(host, found, now_s) for host, found in zip(ids, hashes, strict=True)]
    return sorted(hosts, key=lambda host: (host.name, host.id))


def in_flight(client: Client) -> int:
    """How many items all registered consumers hold."""
    pipe = client.pipeline(transaction=False)
    for consumer in lookup.consumers(client):
        pipe.hlen(keys.inflight(consumer))
    return sum(pipe.execute())


def breakers(hosts: Sequence[Host]) -> list[Breaker]:
    """The breakers of each storage that a living host writes to, sorted by name."""
    living = [host for host in hosts if host.beats]
    found = []
    for name in sorted({name for host in living for name in host.storages}):
        workers = [worker for host in living if name in host.storages for worker in host.workers]
        away = sum(name in worker.get("away", ()) for worker in workers)
        since = [host.away[name] for host in living if name in host.away] if away else []
        reasons = [host.away_reasons[name] for host in living if host.away_reasons.get(name)]
        reason = reasons[-1] if away and reasons else ""
        found.append(Breaker(name, away, len(workers), min(since, default=None), reason))
    return found


def health(client: Client, name: str) -> Health:
    """Whether a host of the machine `name` takes items.

    A living supervisor is not enough, because all its workers may be waiting for their restart.
    """
    hosts = [host for host in read(client) if host.name == name]
    healthy = any(host.consumes for host in hosts)
    reason = "" if healthy else "; ".join(why_not(host) for host in hosts) or "it runs nothing"
    return Health(healthy, name, reason)


def holder(hosts: Sequence[Host], consumer: str, uuid: str) -> tuple[str, int, str, float]:
    """Find the worker that holds an item, by its consumer id and the host's last beat.

    Returns the host's name, the worker's slot, the link that runs, and for how many seconds. "" or
    0 if a value is unknown.
    """
    for host in hosts if consumer else ():
        for worker in host.workers:
            if worker.get("consumer") != consumer:
                continue
            slot = int(worker.get("slot", 0))
            for item in worker.get("items", ()):
                if item.get("uuid") == uuid:
                    link, since_s = str(item.get("link", "")), float(item.get("since_s") or 0.0)
                    return host.name, slot, link, since_s
            return host.name, slot, "", 0.0
    return "", 0, "", 0.0


def _processes(host: Host, kind: str) -> list[dict[str, Any]]:
    return host.transcribers if kind == "windows" else host.workers


class Throughput:
    """How many items per second the hosts do, measured between their beats.

    A beat comes every few seconds; a look that finds the same beat as the last look measures
    nothing. The counter of a replacement worker begins at 0, so processes are distinguished by
    their pids.
    """

    def __init__(self, counted: str = "done") -> None:
        """counted: "done" (items of workers) or "windows" (windows of transcribers)."""
        self._counted = counted
        self._counts: dict[tuple[str, int], int] = {}
        self._totals: dict[str, deque[tuple[float, int]]] = {}

    def look(self, hosts: Sequence[Host]) -> float | None:
        """The rate over the last 15 s; None until two beats of a host have been seen."""
        for host in hosts:
            self._add(host)
        rates = []
        for host in hosts:
            seen = self._totals[host.id]
            (began_s, before), (now_s, after) = seen[0], seen[-1]
            if host.beats and now_s > began_s:
                rates.append((after - before) / (now_s - began_s))
        return sum(rates) if rates else None

    def _add(self, host: Host) -> None:
        first = host.id not in self._totals
        seen = self._totals.setdefault(host.id, deque())
        if seen and seen[-1][0] == host.beat_at:
            return
        total = seen[-1][1] if seen else 0
        for process in _processes(host, self._counted):
            key = (host.id, int(process.get("pid") or 0))
            done = int(process.get(self._counted, 0))
            if not first:
                total += max(done - self._counts.get(key, 0), 0)
            self._counts[key] = done
        seen.append((host.beat_at, total))
        while len(seen) > 2 and seen[-1][0] - seen[0][0] > _RATE_WINDOW_S:
            seen.popleft()


def _host(host: str, found: dict[bytes, bytes], now_s: float) -> Host:
    """Parse the hash of a host. A host before its first beat has no fields, and is `starting`."""
    fields = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in found.items()
        if not name.startswith(b"consumer:")
    }
    supervisor = orjson.loads(fields.get("supervisor", "{}"))
    # Earlier versions have no beat_at_ms: their beat begins with the time by the host's clock.
    beat_ms = float(fields.get("beat_at_ms") or fields.get("beat", "0").partition(".")[0] or 0)
    return Host(
        id=host,
        name=fields.get("name", host),
        version=fields.get("version", ""),
        pid=int(fields.get("pid", 0)),
        state=fields.get("state", "starting"),
        started_at=float(fields.get("started_at", now_s)),
        beat_at=beat_ms / 1000,
        beat_age_s=max(now_s - beat_ms / 1000, 0.0),
        lease_s=float(fields.get("lease_s", 30)),
        lists=orjson.loads(fields.get("lists", "[]")),
        egress=orjson.loads(fields.get("egress", "[]")),
        storages=orjson.loads(fields.get("storages", "[]")),
        workers=orjson.loads(fields.get("workers", "[]")),
        away=orjson.loads(fields.get("away", "{}")),
        away_reasons=orjson.loads(fields.get("away_reasons", "{}")),
        lost=orjson.loads(fields.get("lost", "{}")),
        transcribers=supervisor.get("transcribers", []),
        page_readers=supervisor.get("page_readers", []),
        supervisor=supervisor,
        links=orjson.loads(fields.get("links", "{}")),
    )


def why_not(host: Host) -> str:
    """A clause that says why a host does not claim items."""
    if not host.beats:
        return f"its last beat is {host.beat_age_s:.0f} s old"
    if host.state != "running":
        return f"it is {host.state}"
    if not host.lists:
        return "it serves no lists: its configuration has no enabled chain"
    states = ", ".join(str(worker.get("state")) for worker in host.workers)
    return f"its workers are {states}" if states else "it has no workers"
