"""`conserver retry`: makes parked items due now.

Its exit code is 1 if a list is unknown, or if uuids are named and none of their items is parked.
"""

from __future__ import annotations

from conserver.cli import waiting
from conserver.cli.arguments import (
    AsJson,
    ConfigFile,
    DryRun,
    ErrorText,
    Everything,
    Limit,
    ListNames,
    Uuids,
    examples,
    typer_app,
)
from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output
from conserver.cli.waiting import Causes, StorageName, WaitingFor
from conserver.errors import EXIT_USAGE, BootError
from conserver.operations import waiting as operation
from conserver.operations.dead_letters import parse_age
from conserver.operations.lists import check_known
from conserver.operations.waiting import WaitingFilter

app = typer_app()


@app.command(
    epilog=examples(
        "retry 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978", "retry --list calls --storage s3 --dry-run"
    )
)
def retry(
    uuids: Uuids = None,
    lists: ListNames = None,
    cause: Causes = None,
    storage: StorageName = "",
    error: ErrorText = "",
    older: WaitingFor = "",
    limit: Limit = 0,
    everything: Everything = False,
    dry_run: DryRun = False,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Try parked items now that wait for a retry or a storage.

    Their attempts stay counted. Items that were submitted for later are included
    only with --cause later. Items that wait for a rate stay parked.
    """
    wanted = WaitingFilter(
        names=tuple(lists or ()),
        uuids=tuple(uuids or ()),
        causes=tuple(cause or ()),
        storage=storage,
        error=error,
        older_s=parse_age(older) if older else None,
    )
    if not wanted.names and not wanted.restricts and not everything:
        raise BootError("say which items (a UUID, --list, --cause, ...), or --all", EXIT_USAGE)
    settings = load_settings(config)
    configured = configured_lists(settings)
    with redis_client(settings) as client:
        check_known(client, wanted.names, configured)
        last = waiting.last_of(
            operation.retry(
                client,
                wanted,
                limit=limit,
                dry_run=dry_run,
                actor=actor(),
                configured=configured,
            )
        )
    told = {"retried": last.done, "dry_run": dry_run}
    text = "would be tried now" if dry_run else "made due now"
    return waiting.end(Output(as_json=json), wanted, last, told, text, "is parked")
