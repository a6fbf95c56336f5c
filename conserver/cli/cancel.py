"""`conserver cancel`: takes every copy of a vCon out of the queues.

Dead letters stay; `dlq purge` deletes them. The exit code is 1 if no copy waits or runs.
"""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.arguments import AsJson, Uuid, examples, typer_app
from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import items

app = typer_app()


@app.command(epilog=examples("cancel 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978"))
def cancel(uuid: Uuid, json: AsJson = False) -> int:
    """Take every copy of a vCon out of the queues.

    A running copy stops before its next link.
    """
    output = Output(as_json=json)
    settings = load_settings()
    lists = configured_lists(settings)
    with redis_client(settings) as client:
        keep_s = settings.orphan_expiry_s
        cancelled = items.cancel(client, uuid, actor=actor(), configured=lists, keep_s=keep_s)
    found = asdict(cancelled)
    output.value(found)
    for where in ("queued", "returned", "parked", "running"):
        if found[where]:
            what = "stops at its next link" if where == "running" else "taken out"
            output.line(f"{found[where]} {where}: {what}")
    if not cancelled.total:
        note(f"no copy of {uuid} waits or runs")
        return EXIT_FAILURE
    return 0
