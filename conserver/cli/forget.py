"""`conserver forget --stored`: deletes from Redis the documents that every storage has.

It lets the documents of ended items expire at once. Its exit code is 69 if a storage cannot be
asked.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, DryRun, examples, typer_app
from conserver.cli.environment import actor, load_config, load_settings, redis_client
from conserver.cli.output import Output
from conserver.errors import EXIT_USAGE, BootError
from conserver.operations import forget as forgetting
from conserver.operations import hosts, lists
from conserver.operations.documents import StorageReader

app = typer_app()


@app.command(epilog=examples("forget --stored --dry-run"))
def forget(
    stored: Annotated[
        bool, typer.Option("--stored", help="Documents of ended items that all storages have.")
    ] = False,
    dry_run: DryRun = False,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Make room in Redis: delete documents before they expire."""
    if not stored:
        raise BootError("say what to forget: --stored is all there is", EXIT_USAGE)
    output = Output(as_json=json)
    found = load_settings(config)
    configured = load_config(found)
    with redis_client(found) as client, StorageReader(configured) as storages:
        told = {name for host in hosts.read(client) for name in host.egress}
        names = [*lists.names(client, configured.ingress), *configured.egress, *told]
        steps = forgetting.forget_stored(
            client, storages, list(dict.fromkeys(names)), dry_run=dry_run, actor=actor()
        )
        *_, last = steps
    output.value({**asdict(last), "dry_run": dry_run})
    output.line(f"{last.forgotten} {'would be forgotten' if dry_run else 'forgotten'}")
    if last.awaited:
        output.line(f"{last.awaited} stay: a list or a dead letter names them")
    if last.unstored:
        output.line(f"{last.unstored} stay: a storage does not have them")
    return 0
