"""`conserver audit`: prints who changed what with commands, the API or the dashboard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from conserver.cli.arguments import AsJson, Limit, examples, typer_app
from conserver.cli.environment import load_settings, redis_client
from conserver.cli.output import Output, age_text
from conserver.operations import audit as operation

app = typer_app()


@app.command(epilog=examples("audit --limit 5", "audit --action pause"))
def audit(
    action: Annotated[
        str, typer.Option("--action", metavar="WHAT", help="Only these: pause, requeue, ...")
    ] = "",
    limit: Limit = 20,
    json: AsJson = False,
) -> int:
    """Tell who changed what: the last 1000 changes, newest first."""
    output = Output(as_json=json)
    with redis_client(load_settings()) as client:
        entries = operation.recent(client, operation.KEEP)
    found = [one for one in entries if action in ("", one.action)][: limit or None]
    output.value([asdict(one) for one in found])
    rows = [
        (
            age_text(max(time.time() - one.at, 0.0)),
            one.actor,
            one.action,
            one.count,
            _target(one.target),
        )
        for one in found
    ]
    output.table(
        ("age", "who", "action", "count", "what"), rows, none="nobody has changed anything"
    )
    return 0


def _target(target: Mapping[str, Any]) -> str:
    """`lists calls, chats; reason failed`."""
    return "; ".join(
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in target.items()
    )
