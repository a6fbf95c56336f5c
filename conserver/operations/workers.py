"""Workers: what each one holds; ask a host to replace one of them."""

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
    """The worker that was asked to leave, and how many items it finishes before."""

    host: str
    name: str
    slot: int
    pid: int
    held: int


@dataclass(frozen=True, slots=True)
class Held:
    """One item that a worker holds.

    Attributes:
        phase, link, since_s: what the worker does with it, in which link, and for how long, as its
            host has told it; "" and 0 for one that was not told (the first of a worker's are).
        claimed_at: when any worker claimed it first, in Unix seconds.
        attempts: those that came to nothing. links: those that are done.
        owed: storages to be written; None until the links are done.
    """

    uuid: str
    job: str
    list: str
    phase: str
    link: str
    since_s: float
    claimed_at: float
    attempts: int
    links: Sequence[str]
    owed: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker and all items that it holds at this moment, the longest claimed first.

    Attributes:
        host, name: the id and the name of its host. beats: whether that lives.
    """

    host: str
    name: str
    beats: bool
    slot: int
    pid: int
    state: str
    items: Sequence[Held]


def holders(client: Client, living: Sequence[Host]) -> Iterator[Holder]:
    """Every worker of these hosts with what it holds."""
    for host in living:
        for worker in host.workers:
            yield _holder(client, host, worker)


def holder(client: Client, host: str, slot: int) -> Holder:
    """One worker with what it holds.

    Args:
        host: the id of its host.

    Raises:
        OperationError: "not_found": there is no such worker.
    """
    return _holder(client, *_found(client, host, slot))


def recycle(client: Client, host: str, slot: int, *, actor: str) -> Recycled:
    """Asks a worker to finish what it has and to leave; a new process takes its place.

    Its host does so within about a second. Nothing is lost, and nothing runs twice.

    Args:
        host: the id of its host.

    Raises:
        OperationError: "not_found": there is no such worker; "conflict": it leaves already, or its
            host is dead.
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
    for found in hosts.read(client):
        for worker in found.workers if found.id == host else ():
            if worker.get("slot") == slot:
                return found, worker
    raise OperationError(f"there is no worker {slot} of a host `{host[:80]}`", "not_found")


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
    """Raises ValueError for what is no record."""
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
        links=state.links,
        owed=state.owed,
    )
