"""`conserver ps`: prints every item that workers hold: the worker, the link, and for how long."""

from __future__ import annotations

import time
from dataclasses import asdict

from conserver.cli.environment import load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import hosts, workers
from conserver.operations.workers import Held, Holder


def show(output: Output, *, host: str = "", worker: int = 0, config_file: str = "") -> int:
    """Prints the items that workers hold now, for each worker the earliest claimed first.

    Args:
        host: only hosts with this name or id; "": all hosts.
        worker: only workers with this number; 0: all workers.

    Returns:
        0, or 1 if there is no such worker.
    """
    with redis_client(load_settings(config_file)) as client:
        meant = [one for one in hosts.read(client) if host in ("", one.name, one.id)]
        found = [one for one in workers.holders(client, meant) if worker in (0, one.slot)]
    output.value([_told(one, held) for one in found for held in one.items])
    rows = [_row(one, held) for one in found for held in one.items]
    columns = ("host", "worker", "uuid", "list", "job", "claimed", "attempts", "now")
    if found:
        output.table(columns, rows, none="no worker holds anything")
        return 0
    note("there is no such worker" if host or worker else "no host is running")
    return EXIT_FAILURE if host or worker else 0


def _told(one: Holder, held: Held) -> dict[str, object]:
    return {"host": one.name, "worker": one.slot, "pid": one.pid, **asdict(held)}


def _row(one: Holder, held: Held) -> tuple[object, ...]:
    age = age_text(max(time.time() - held.claimed_at, 0.0))
    return (
        one.name,
        one.slot,
        held.uuid,
        held.list,
        held.job,
        f"{age} ago",
        held.attempts or "",
        _now(held),
    )


def _now(held: Held) -> str:
    """What the worker does with the item now."""
    if held.link:
        return f"at {held.link} for {age_text(held.since_s)}"
    if held.owed:
        return f"waits for storage {', '.join(held.owed)}"
    return held.phase or "held"
