"""`conserver cancel`: takes every copy of a vCon out of the queues."""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import items


def cancel(output: Output, uuid: str) -> int:
    """Cancels every copy of a vCon that waits or runs. Dead letters stay; `dlq purge` deletes them.

    Returns:
        0, or 1 if no copy waits or runs.
    """
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
