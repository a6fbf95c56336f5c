"""Workers: ask a host to replace one of them."""

from __future__ import annotations

from dataclasses import dataclass

from conserver.errors import OperationError
from conserver.operations import audit, hosts
from conserver.operations.connection import Client
from conserver.queue import keys, wishes

_OVER = frozenset({"draining", "waiting", "registering"})


@dataclass(frozen=True, slots=True)
class Recycled:
    """The worker that was asked to leave, and how many items it finishes before."""

    host: str
    name: str
    slot: int
    pid: int
    held: int


def recycle(client: Client, host: str, slot: int, *, actor: str) -> Recycled:
    """Asks a worker to finish what it has and to leave; a new process takes its place.

    Its host does so within about a second. Nothing is lost, and nothing runs twice.

    Args:
        host: the id of its host.

    Raises:
        OperationError: "not_found": there is no such worker; "conflict": it leaves already, or its
            host is dead.
    """
    found = next((one for one in hosts.read(client) if one.id == host), None)
    workers = found.workers if found else []
    worker = next((one for one in workers if one.get("slot") == slot), None)
    if found is None or worker is None:
        raise OperationError(f"there is no worker {slot} of a host `{host[:80]}`", "not_found")
    consumer = str(worker.get("consumer") or "")
    if not found.beats or not consumer or worker.get("state") in _OVER:
        why = "its host does not beat" if not found.beats else f"it is {worker.get('state')}"
        raise OperationError(f"worker {slot} of {found.name} is not replaced: {why}", "conflict")
    wishes.ask(client, keys.CONTROL, {keys.recycle(host, slot): consumer})
    target = {"host": found.name, "slot": slot, "pid": worker.get("pid", 0)}
    audit.record(client, actor, "recycle", target, 1)
    pid, held = int(worker.get("pid") or 0), int(worker.get("held") or 0)
    return Recycled(host, found.name, slot, pid, held)
