"""`conserver ps`: prints every item that workers hold: the worker, the link, and for how long.

Its exit code is 1 if there is no such worker.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, examples, number, typer_app
from conserver.cli.environment import load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import hosts, workers
from conserver.operations.workers import Held, Holder

app = typer_app()


@app.command(epilog=examples("ps", "ps --host box-1 --worker 2 --json"))
def ps(
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="Only of this host.")] = "",
    worker: Annotated[int, number("--worker", "-w", help_="Only of workers with this number.")] = 0,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Show all items that workers hold, with link and duration.

    `claimed` is the time of an item's first claim, by any worker.
    """
    output = Output(as_json=json)
    with redis_client(load_settings(config)) as client:
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
        _attempts(held),
        _now(held),
    )


def _attempts(held: Held) -> str:
    """How many runs failed, and whether workers died with the item: `0, suspect, 1 death`."""
    parts = [str(held.attempts), "suspect" if held.suspect else ""]
    if held.deaths:
        parts.append(f"{held.deaths} death{'s' * (held.deaths != 1)}")
    return ", ".join(part for part in parts if part)


def _now(held: Held) -> str:
    """What the worker does with the item now."""
    if held.link:
        return f"at {held.link} for {age_text(held.since_s)}"
    if held.owed:
        return f"waits for storage {', '.join(held.owed)}"
    return held.phase or "held"
