"""`conserver resume`: lets workers claim from paused lists again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, examples, typer_app
from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.operations import lists as operation

app = typer_app()


@app.command(epilog=examples("resume calls", "resume"))
def resume(
    lists: Annotated[list[str] | None, typer.Argument(metavar="LIST")] = None,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Take items from paused lists again.

    If no list is named: from all paused lists.
    """
    output = Output(as_json=json)
    names = lists or []
    found = load_settings(config)
    configured = configured_lists(found) if names else []
    with redis_client(found) as client:
        resumed = operation.resume(client, names, actor=actor(), configured=configured)
    output.value(asdict(resumed))
    output.line(f"resumed: {', '.join(resumed.resumed) or 'nothing'}")
    for name in sorted(set(names) - set(resumed.resumed)):
        note(f"warning: {name} was not paused")
    return 0
