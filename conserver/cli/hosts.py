"""What the living hosts say of themselves (conserver/coordinator/host_status.py has the fields)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from conserver.cli.base import Client
from conserver.queue import calls

WORKING_STATES = frozenset({"idle", "working"})


@dataclass(frozen=True, slots=True)
class Host:
    """One supervisor and its workers, as of its last beat."""

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

    @property
    def beats(self) -> bool:
        """Whether it has beaten within its lease."""
        return self.beat_age_s < self.lease_s

    @property
    def consumes(self) -> bool:
        """Whether it takes items: it beats, serves a list, drains not, has a worker that claims."""
        able = any(worker.get("state") in WORKING_STATES for worker in self.workers)
        return self.beats and self.state == "running" and bool(self.lists) and able


def read_hosts(client: Client) -> list[Host]:
    """Every host in conserver:hosts, by name. Ages are by Redis's clock and each host's own."""
    ids = sorted(host.decode() for host in client.smembers(calls.HOSTS))
    pipe = client.pipeline(transaction=False)
    pipe.time()
    for host in ids:
        pipe.hgetall(calls.host_key(host))
    (seconds, micros), *hashes = pipe.execute()
    now_s = seconds + micros / 1e6
    hosts = [_host(host, found, now_s) for host, found in zip(ids, hashes, strict=True)]
    return sorted(hosts, key=lambda host: (host.name, host.id))


def _host(host: str, found: dict[bytes, bytes], now_s: float) -> Host:
    """A host that is registered and has not beaten yet has no fields: it shows as starting."""
    fields = {
        name.decode(): value.decode("utf-8", "replace")
        for name, value in found.items()
        if not name.startswith(b"consumer:")
    }
    beat_ms = float(fields.get("beat", "0").partition(".")[0] or 0)
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
        storages=orjson.loads(fields.get("storages", "[]")),
        workers=orjson.loads(fields.get("workers", "[]")),
    )
