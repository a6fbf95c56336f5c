"""`conserver pause`: stops workers from claiming from lists. Claimed items go on to their end."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, examples, typer_app
from conserver.cli.environment import (
    actor,
    configured_lists,
    load_config,
    load_settings,
    redis_client,
)
from conserver.cli.output import Output, note
from conserver.errors import OperationError
from conserver.operations import lists as operation

app = typer_app()


@app.command(epilog=examples("pause calls", "pause"))
def pause(
    lists: Annotated[list[str] | None, typer.Argument(metavar="LIST")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also pause a list that does not exist yet.")
    ] = False,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Stop taking items from lists; running items go on.

    If no list is named: from all lists of the configuration.
    """
    output = Output(as_json=json)
    names = lists or []
    found = load_settings(config)
    configured = configured_lists(found) if names else list(load_config(found).ingress)
    with redis_client(found) as client:
        unknown = operation.unknown(client, names, configured)
        try:
            paused = operation.pause(
                client,
                names or configured,
                actor=actor(),
                configured=None if force else configured,
            )
        except OperationError as error:
            raise OperationError(f"{error}; --force pauses it all the same", error.kind) from None
    for one in unknown:
        hint = f" ({one.hint})" if one.hint else ""
        note(f"warning: nobody has ever taken from {one.name}{hint}")
    output.value(asdict(paused))
    output.line(f"paused: {', '.join(paused.paused) or 'nothing'}")
    return 0
