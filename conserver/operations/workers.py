"""Workers: lists the items that each worker holds, and asks a host to replace a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conserver.errors import OperationError
from conserver.operations import audit, hosts, parked
from conserver.operations.connection import Client
from conserver.operations.hosts import Host
from conserver.queue import elements, keys, record, wishes
from conserver.queue.names import name_of

_OVER = frozenset({"draining", "waiting", "registering"})


@dataclass(frozen=True, slots=True)
class Recycled:
    """A worker that was asked to end. held: how many items it finishes before."""

    host: str
    name: str
    slot: int
    pid: int
    held: int


@dataclass(frozen=True, slots=True)
class Held:
    """One item that a worker holds.

    Attributes:
        phase, link, since_s: the item's phase, the link that runs, and for how long, from the
            host's last beat. A beat has only the first items of each worker: "" and 0 for others.
        claimed_at: when the item was claimed first, in Unix seconds.
        attempts: how many runs were unsuccessful; a run that its worker's death ended is none.
        deaths: how many deaths of workers were counted for it. suspect: whether it may have killed
            a worker; after a first death this is true, and `deaths` is 0.
        links: the links that are done.
        owed: the storages that must still be written; None until all links are done.
    """

    uuid: str
    job: str
    list: str
    phase: str
    link: str
    since_s: float
    claimed_at: float
    attempts: int
    deaths: int
    suspect: bool
    links: Sequence[str]
    owed: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker and all items that it holds, the items with the earliest first claim first.

    Attributes:
        host, name: the id and the name of the worker's host. beats: whether that host lives.
    """

    host: str
    name: str
    beats: bool
    slot: int
    pid: int
    state: str
    items: Sequence[Held]


def holders(client: Client, living: Sequence[Host]) -> Iterator[Holder]:
    """All workers of these hosts with the items that they hold."""
    for host in living:
        for worker in host.workers:
            yield _holder(client, host, worker)


def holder(client: Client, host: str, slot: int) -> Holder:
    """One worker with the items that it holds.

    Args:
        host: the id of its host.

    Raises:
        OperationError: "not_found": there is no such worker.
    """
    return _holder(client, *_found(client, host, slot))


def recycle(client: Client, host: str, slot: int, *, actor: str) -> Recycled:
    """Ask a host to replace a worker. The worker finishes its items first; none is lost, and none
    runs twice. The host begins within about a second.

    Args:
        host: the id of the worker's host.

    Raises:
        OperationError: "not_found": there is no such worker; "conflict": the worker is ending
            already, or its host is dead.
    """
    found, worker = _found(client, host, slot)
    consumer = str(worker.get("consumer") or "")
    if not found.beats or not consumer or worker.get("state") in _OVER:
        why = "its host does not beat" if not found.beats else f"it is {worker.get('state')}"
        raise OperationError(f"worker {slot} of {found.name} is not replaced: {why}", "conflict")
    wishes.ask(client, keys.CONTROL, {keys.recycle(host, slot): consumer})
    target = {"host": found.name, "slot": slot, "pid": worker.get("pid", 0)}
    audit.record(client, actor, "recycle", target, 1)
    pid, held = int(worker.get("pid") or 0), int(worker.get("held") or 0)
    return Recycled(host, found.name, slot, pid, held)


def _found(client: Client, host: str, slot: int) -> tuple[Host, dict[str, Any]]:
    found = next((one for one in hosts.read(client) if one.id == host), None)
    if found is None:
        why = f"there is no worker {slot} of the host `{host[:80]}`: no host has this id"
        raise OperationError(why, "not_found")
    worker = next((one for one in found.workers if one.get("slot") == slot), None)
    if worker is None:
        there = ", ".join(str(one.get("slot")) for one in found.workers) or "none"
        why = f"there is no worker {slot} of the host `{found.name}`; its workers are {there}"
        raise OperationError(why, "not_found")
    return found, worker


def _holder(client: Client, host: Host, worker: Mapping[str, Any]) -> Holder:
    consumer = str(worker.get("consumer") or "")
    told = {str(one.get("uuid", "")): one for one in worker.get("items", ())}
    items = []
    for _, text in elements.in_hash(client, keys.inflight(consumer)) if consumer else ():
        try:
            items.append(_held(text, told))
        except ValueError:  # Another program put it there.
            continue
    return Holder(
        host=host.id,
        name=host.name,
        beats=host.beats,
        slot=int(worker.get("slot") or 0),
        pid=int(worker.get("pid") or 0),
        state=str(worker.get("state", "")),
        items=sorted(items, key=lambda one: (one.claimed_at, one.uuid)),
    )


def _held(text: bytes, told: Mapping[str, Mapping[str, Any]]) -> Held:
    """Parse a record. told: uuid -> the item in the host's last beat. Raises ValueError for bytes
    that are no record.
    """
    parsed = record.parse(text)
    uuid = name_of(parsed.payload)
    now = told.get(uuid, {})
    state = parked.state_of(text) or record.Progress()
    return Held(
        uuid=uuid,
        job=parsed.job,
        list=parsed.list,
        phase=str(now.get("phase", "")),
        link=str(now.get("link") or ""),
        since_s=float(now.get("since_s") or 0.0),
        claimed_at=parsed.first_seen_ms / 1000,
        attempts=state.attempts,
        deaths=parsed.deaths,
        suspect=parsed.suspect,
        links=state.links,
        owed=state.owed,
    )
