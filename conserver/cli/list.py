"""`conserver list`: prints the items of a list: running ones, waiting ones and parked ones."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, Limit, examples, typer_app
from conserver.cli.environment import configured_lists, load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.cli.tables import Marked
from conserver.cli.where import holder_text
from conserver.operations import contents, hosts, lists
from conserver.operations.contents import Content, Running

app = typer_app()


@app.command("list", epilog=examples("list calls", "list calls --limit 0 --json"))
def list_(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    limit: Limit = 20,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Show the items of a list: running, waiting and parked ones."""
    output = Output(as_json=json)
    found = load_settings(config)
    configured = configured_lists(found)
    with redis_client(found) as client:
        lists.check_known(client, [name], configured)
        depth = lists.depths(client, [name])[name]
        running = contents.running(client, name, hosts.read(client))
        first = contents.first(client, name, limit)
        parked = contents.parked(client, name, limit) if depth.parked else []
    shown = running[: limit or None]
    output.value(
        {
            "list": name,
            **asdict(depth),
            "in_flight": len(running),
            "items": {
                "running": [asdict(one) for one in shown],
                "first": [asdict(one) for one in first],
                "parked": [asdict(one) for one in parked],
            },
        }
    )
    rows = [*map(_running, shown), *map(_waiting, first), *map(_waiting, parked)]
    columns = ("place", "uuid", "job", "attempts", "links done", "what")
    output.table(columns, rows, none=f"{name} is empty")
    waiting = (depth.queued or 0) + (depth.returned or 0) + (depth.suspects or 0)
    left = len(running) + waiting + (depth.parked or 0) - len(rows)
    if left > 0:
        note(f"and {left} more: --limit 0 shows all")
    if depth.dead:
        note(f"{depth.dead} dead: `conserver dlq list --list {name}`")
    return 0


_WAITS_FOR = {
    "rate": "its rate",
    "throttled": "a server that asked to wait",
    "later": "the time for which it was submitted",
    "retry": "another attempt",
}


def _running(one: Running) -> tuple[object, ...]:
    what = holder_text(one.link, one.since_s, one.worker, one.host)
    return ("running", one.uuid, one.job, "", "", what)


def _waiting(one: Content) -> tuple[object, ...]:
    place: object = one.where
    if one.where in ("parked", "suspects"):
        place = Marked(place, "warning")
    what = [f"waits for storage {', '.join(one.owed)}"] if one.owed else []
    if one.due_at:
        due_s = one.due_at - time.time()
        what.append(f"due in {age_text(due_s)}" if due_s > 0 else "due now")
    if one.cause in _WAITS_FOR:
        what.append(f"waits for {_WAITS_FOR[one.cause]}")
    if one.error:
        what.append(one.error)
    return (place, one.uuid, one.job, one.attempts or "", ", ".join(one.links), "; ".join(what))
