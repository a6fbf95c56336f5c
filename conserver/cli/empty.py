"""`conserver empty`: takes waiting items out of lists, for good.

Its exit code is 1 if uuids are named and none of their items waits, or if the person at the
terminal does not agree.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Annotated

import typer

from conserver.cli import waiting
from conserver.cli.arguments import (
    AsJson,
    ConfigFile,
    DryRun,
    ErrorText,
    Limit,
    examples,
    typer_app,
)
from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.cli.waiting import Causes, StorageName, WaitingFor
from conserver.errors import EXIT_FAILURE
from conserver.operations import lists, words
from conserver.operations import waiting as operation
from conserver.operations.dead_letter_moves import Progress
from conserver.operations.dead_letters import parse_age
from conserver.operations.waiting import WaitingFilter

Places = Annotated[
    list[str] | None,
    typer.Option("--place", metavar="NAME", help="Only items there: queued, parked ..."),
]

app = typer_app()


@app.command(epilog=examples("empty calls --older 2h --dry-run", "empty calls --yes"))
def empty(
    names: Annotated[list[str], typer.Argument(metavar="LIST", show_default=False)],
    uuids: Annotated[
        list[str] | None, typer.Option("--uuid", metavar="UUID", help="Only of this vCon.")
    ] = None,
    place: Places = None,
    cause: Causes = None,
    storage: StorageName = "",
    error: ErrorText = "",
    older: WaitingFor = "",
    limit: Limit = 0,
    dry_run: DryRun = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask on a terminal before all is taken out.")
    ] = False,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """Take all waiting items out of lists, for good.

    Their jobs end as cancelled. Running items go on (see `cancel`), and dead letters
    stay (see `dlq purge`). Pause the lists first if workers take from them.
    """
    wanted = WaitingFilter(
        names=tuple(names),
        uuids=tuple(uuids or ()),
        places=tuple(place or ()),
        causes=tuple(cause or ()),
        storage=storage,
        error=error,
        older_s=parse_age(older) if older else None,
    )
    asks = not yes and sys.stdin.isatty()
    settings = load_settings(config)
    configured = configured_lists(settings)
    with redis_client(settings) as client:
        lists.check_known(client, names, configured)

        def steps(*, dry: bool) -> Generator[Progress, None, None]:
            return operation.empty(
                client,
                wanted,
                limit=limit,
                dry_run=dry,
                actor=actor(),
                configured=configured,
                keep_s=settings.orphan_expiry_s,
            )

        if asks and not dry_run and not wanted.restricts:
            count = words.items(waiting.last_of(steps(dry=True)).matching)
            if not _agreed(count, names):
                note("nothing was taken out")
                return EXIT_FAILURE
        last = waiting.last_of(steps(dry=dry_run))
    told = {"taken_out": last.done, "dry_run": dry_run}
    text = "would be taken out" if dry_run else "taken out"
    return waiting.end(Output(as_json=json), wanted, last, told, text, "waits")


def _agreed(count: str, names: list[str]) -> bool:
    """Whether the person at the terminal agrees."""
    note(f"{count} of {', '.join(names)} will be gone for good. Empty? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
