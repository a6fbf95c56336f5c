"""`conserver where`: prints where the items of a vCon are, or how its last item ended.

It also prints its jobs. The exit code is 1 if Redis has no trace of the vCon.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime

from conserver.cli.arguments import AsJson, ConfigFile, Uuid, examples, typer_app
from conserver.cli.environment import configured_lists, load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.cli.tables import Marked, Style
from conserver.errors import EXIT_FAILURE
from conserver.operations import audit, lists, story
from conserver.operations.items import Where
from conserver.operations.story import Attempt, Place

_STYLES: dict[Where, Style] = {"dead": "bad", "parked": "warning", "suspects": "warning"}

app = typer_app()


@app.command(epilog=examples("where 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978"))
def where(uuid: Uuid, config: ConfigFile = "", json: AsJson = False) -> int:
    """Tell where a vCon is, or how it ended.

    It shows the list and the place, the worker that runs it, and what it waits for.
    """
    output = Output(as_json=json)
    found = load_settings(config)
    configured = configured_lists(found)
    with redis_client(found) as client:
        known = story.read(client, lists.names(client, configured), uuid)
        cancelled = audit.latest_cancel(client, uuid)
    output.value(story.as_data(known) | {"cancelled": asdict(cancelled) if cancelled else None})
    rows = [
        (
            one.list,
            Marked(one.where, _STYLES.get(one.where, "")),
            one.attempts or "",
            ", ".join(one.links),
            _what(one),
        )
        for one in known.places
    ]
    if rows:
        output.table(("list", "place", "attempts", "links done", "what"), rows)
    for job in known.jobs:
        output.line(f"job {job.id}: {job.status}, on {job.list}")
    if not known.places and known.attempts:
        output.line(_ended(known.attempts[-1]))
    if cancelled:
        copies = f"{cancelled.count} cop{'y' if cancelled.count == 1 else 'ies'} of it"
        ago = age_text(max(time.time() - cancelled.at, 0.0))
        output.line(f"{cancelled.actor} has cancelled {copies} {ago} ago")
    if not (rows or known.jobs or known.attempts or cancelled):
        note(
            f"{uuid} is in no list, nor in flight, parked or dead. It has ended without a trace "
            f"(see CONSERVER_STORIES), or was never pushed; `conserver get {uuid}` looks for its "
            "document"
        )
        return EXIT_FAILURE
    return 0


def holder_text(link: str, since_s: float, worker: int, host: str) -> str:
    """Who has an item. An item in no link waits for a chain thread or for its storages."""
    at = f"at {link} for {age_text(since_s)}, " if link else "held by "
    return at + (f"worker {worker} of {host}" if host else "a host that does not say")


def _what(one: Place) -> str:
    """What the item waits for, or who works on it."""
    if one.where == "running":
        return holder_text(one.link, one.since_s, one.worker, one.host)
    if one.where == "parked":
        until_s = one.due_at - time.time()
        when = f"in {age_text(until_s)}" if until_s > 0 else "now"
        return f"due {when}, waits for {_waits_for(one)}"
    return one.error


def _waits_for(one: Place) -> str:
    if one.throttled:
        return f"the server of {one.throttled}, which asked to wait"
    if one.rates:
        return f"the rate of {', '.join(one.rates)}"
    if one.owed:
        return f"storage {', '.join(one.owed)}"
    return f"another attempt: {one.error}" if one.error else "its time"


def _ended(last: Attempt) -> str:
    """How the last attempt ended, of a vCon whose items have all ended."""
    at = datetime.fromtimestamp(last.claimed_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    event = last.events[-1] if last.events else None
    how = f"{event.kind} {event.text}".rstrip() if event else "without a word"
    return f"no item of it waits or runs; the last one, of {last.list_name} at {at}, ended: {how}"
