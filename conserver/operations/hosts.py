"""Hosts and their workers, from what each host's beat says (coordinator/host_status.py).

Also what follows from that: which storages are away, how fast items are done, whether a machine
consumes.
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
        started_at, beat_at_s: seconds since the epoch, by the host's own clock and by Redis's.
        lease_s: the host counts as dead once its last beat is so old.
        storages: those that its chains write to.
        egress: the lists that its chains push to when an item is done.
        workers, supervisor: as coordinator/host_status.py describes them.
        away: of each storage that is away for one of its workers, since when (Unix seconds).
        away_reasons: and why.
        transcribers: as supervisor/transcribers.py describes them; none where workers hold the
            models themselves, or nothing is transcribed.
        page_readers: as supervisor/page_readers.py describes them; none where no link reads pages.
        links: chain -> link -> how often it ran, and for how many seconds in all, since the host
            started; nothing where its workers do not meter.
        consumes: whether it takes items: it beats, is running, serves a list, and has a worker that
            claims.
    """

    id: str
    name: str
    version: str
    pid: int
    state: str
    started_at: float
    beat_at_s: float
    beat_age_s: float
    lease_s: float
    lists: list[str]
    storages: list[str]
    workers: list[dict[str, Any]]
    egress: list[str] = field(default_factory=list)
    away: dict[str, float] = field(default_factory=dict)
    away_reasons: dict[str, str] = field(default_factory=dict)
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
        """Whether its last beat is younger than its lease."""
        return self.beat_age_s < self.lease_s


@dataclass(frozen=True, slots=True)
class Breaker:
    """For how many workers a storage's breaker is open, of those that write to it.

    Attributes:
        since: since when it has been open for one of them, in Unix seconds; None if it is not.
        reason: what it answers now, or why it cannot be reached; "" if it is not away.
    """

    storage: str
    open: int
    workers: int
    since: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the machine `host` consumes; `reason` says why not."""

    healthy: bool
    host: str
    reason: str


def read(client: Client) -> list[Host]:
    """Every registered host, by name. Ages are by Redis's clock."""
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
    """How many items are held by any registered consumer."""
    pipe = client.pipeline(transaction=False)
    for consumer in lookup.consumers(client):
        pipe.hlen(keys.inflight(consumer))
    return sum(pipe.execute())


def breakers(hosts: Sequence[Host]) -> list[Breaker]:
    """Each storage that a living host writes to, by name."""
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
    """Whether a host of the machine `name` consumes.

    That its supervisor lives is not enough: its workers may all wait for their next start.
    """
    hosts = [host for host in read(client) if host.name == name]
    healthy = any(host.consumes for host in hosts)
    reason = "" if healthy else "; ".join(why_not(host) for host in hosts) or "it runs nothing"
    return Health(healthy, name, reason)


def holder(hosts: Sequence[Host], consumer: str, uuid: str) -> tuple[str, int, str, float]:
    """Who holds an item of a consumer, as the host's beat tells it: the host's name, the number of
    the worker, the link that runs and for how long. "" and 0 for what is not known.
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


class Rate:
    """How many items per second the hosts do, measured between their beats.

    A beat comes every few seconds. A look that meets the same beat again learns nothing and must
    not count as a time without work. A worker that is replaced counts from 0, so workers are told
    apart by their pids.
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
        if seen and seen[-1][0] == host.beat_at_s:
            return
        total = seen[-1][1] if seen else 0
        for process in _processes(host, self._counted):
            key = (host.id, int(process.get("pid") or 0))
            done = int(process.get(self._counted, 0))
            if not first:
                total += max(done - self._counts.get(key, 0), 0)
            self._counts[key] = done
        seen.append((host.beat_at_s, total))
        while len(seen) > 2 and seen[-1][0] - seen[0][0] > _RATE_WINDOW_S:
            seen.popleft()


def _host(host: str, found: dict[bytes, bytes], now_s: float) -> Host:
    """A host from its hash. One that has not beaten yet has no fields and shows as starting."""
    fields = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in found.items()
        if not name.startswith(b"consumer:")
    }
    supervisor = orjson.loads(fields.get("supervisor", "{}"))
    # Hosts of before have no time of their beat but their own, with which it begins.
    beat_ms = float(fields.get("beat_at_ms") or fields.get("beat", "0").partition(".")[0] or 0)
    return Host(
        id=host,
        name=fields.get("name", host),
        version=fields.get("version", ""),
        pid=int(fields.get("pid", 0)),
        state=fields.get("state", "starting"),
        started_at=float(fields.get("started_at", now_s)),
        beat_at_s=beat_ms / 1000,
        beat_age_s=max(now_s - beat_ms / 1000, 0.0),
        lease_s=float(fields.get("lease_s", 30)),
        lists=orjson.loads(fields.get("lists", "[]")),
        egress=orjson.loads(fields.get("egress", "[]")),
        storages=orjson.loads(fields.get("storages", "[]")),
        workers=orjson.loads(fields.get("workers", "[]")),
        away=orjson.loads(fields.get("away", "{}")),
        away_reasons=orjson.loads(fields.get("away_reasons", "{}")),
        transcribers=supervisor.get("transcribers", []),
        page_readers=supervisor.get("page_readers", []),
        supervisor=supervisor,
        links=orjson.loads(fields.get("links", "{}")),
    )


def why_not(host: Host) -> str:
    """Why a host does not consume, in words."""
    if not host.beats:
        return f"its last beat is {host.beat_age_s:.0f} s old"
    if host.state != "running":
        return f"it is {host.state}"
    if not host.lists:
        return "it serves no lists: its configuration has no enabled chain"
    states = ", ".join(str(worker.get("state")) for worker in host.workers)
    return f"its workers are {states}" if states else "it has no workers"
