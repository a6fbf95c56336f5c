"""Declares the commands with which operators see and change lists and hosts: `ps`, `pause` ..."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from conserver.cli.arguments import (
    AsJson,
    ConfigFile,
    DryRun,
    ErrorText,
    Everything,
    Limit,
    ListNames,
    Uuid,
    Uuids,
    end,
    examples,
    seconds,
)
from conserver.cli.output import Output

commands = typer.Typer()

Causes = Annotated[
    list[str] | None,
    typer.Option("--cause", metavar="NAME", help="Parked for this: retry, storage, later ..."),
]
StorageName = Annotated[
    str, typer.Option("--storage", metavar="NAME", help="Not yet written to this storage.")
]
WaitingFor = Annotated[
    str, typer.Option("--older", metavar="AGE", help="Claimed or submitted longer ago: 2h, 7d.")
]


@commands.command("list", epilog=examples("list calls", "list calls --limit 0 --json"))
def list_(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    limit: Limit = 20,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Show the items of a list: running, waiting and parked ones."""
    from conserver.cli.contents import show

    end(lambda: show(Output(as_json=json), name, config, limit=limit))


@commands.command(epilog=examples("ps", "ps --host box-1 --worker 2 --json"))
def ps(
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="Only of this host.")] = "",
    worker: Annotated[
        int,
        typer.Option(
            "--worker",
            "-w",
            metavar="N",
            min=0,
            show_default=False,
            help="Only of workers with this number.",
        ),
    ] = 0,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Show all items that workers hold, with link and duration.

    `claimed` is the time of an item's first claim, by any worker.
    """
    from conserver.cli.ps import show

    output = Output(as_json=json)
    end(lambda: show(output, host=host, worker=worker, config_file=config))


@commands.command(epilog=examples("cancel 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978"))
def cancel(uuid: Uuid, json: AsJson = False) -> None:
    """Take every copy of a vCon out of the queues.

    A running copy stops before its next link.
    """
    from conserver.cli.cancel import cancel

    end(lambda: cancel(Output(as_json=json), uuid))


@commands.command(
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
) -> None:
    """Try parked items now that wait for a retry or a storage.

    Their attempts stay counted. Items that were submitted for later are included
    only with --cause later. Items that wait for a rate stay parked.
    """
    from conserver.cli.waiting import retry
    from conserver.operations.dead_letters import parse_age
    from conserver.operations.waiting import WaitingFilter

    def action() -> int:
        wanted = WaitingFilter(
            names=tuple(lists or ()),
            uuids=tuple(uuids or ()),
            causes=tuple(cause or ()),
            storage=storage,
            error=error,
            older_s=parse_age(older) if older else None,
        )
        output = Output(as_json=json)
        return retry(output, wanted, config, everything=everything, limit=limit, dry_run=dry_run)

    end(action)


@commands.command(epilog=examples("empty calls --older 2h --dry-run", "empty calls --yes"))
def empty(
    names: Annotated[list[str], typer.Argument(metavar="LIST", show_default=False)],
    uuids: Annotated[
        list[str] | None, typer.Option("--uuid", metavar="UUID", help="Only of this vCon.")
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option("--place", metavar="NAME", help="Only items there: queued, parked ..."),
    ] = None,
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
) -> None:
    """Take all waiting items out of lists, for good.

    Their jobs end as cancelled. Running items go on (see `cancel`), and dead letters
    stay (see `dlq purge`). Pause the lists first if workers take from them.
    """
    from conserver.cli.waiting import empty
    from conserver.operations.dead_letters import parse_age
    from conserver.operations.waiting import WaitingFilter

    def action() -> int:
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
        output = Output(as_json=json)
        return empty(output, wanted, config, limit=limit, dry_run=dry_run, asks=asks)

    end(action)


@commands.command(epilog=examples("pause calls", "pause"))
def pause(
    lists: Annotated[list[str] | None, typer.Argument(metavar="LIST")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also pause a list that does not exist yet.")
    ] = False,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Stop taking items from lists; running items go on.

    If no list is named: from all lists of the configuration.
    """
    from conserver.cli.pause import pause

    end(lambda: pause(Output(as_json=json), lists or [], config, force=force))


@commands.command(epilog=examples("resume calls", "resume"))
def resume(
    lists: Annotated[list[str] | None, typer.Argument(metavar="LIST")] = None,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Take items from paused lists again.

    If no list is named: from all paused lists.
    """
    from conserver.cli.resume import resume

    end(lambda: resume(Output(as_json=json), lists or [], config))


@commands.command(epilog=examples("audit --limit 5", "audit --action pause"))
def audit(
    action: Annotated[
        str, typer.Option("--action", metavar="WHAT", help="Only these: pause, requeue, ...")
    ] = "",
    limit: Limit = 20,
    json: AsJson = False,
) -> None:
    """Tell who changed what: the last 1000 changes, newest first."""
    from conserver.cli.audit import show

    end(lambda: show(Output(as_json=json), action, limit=limit))


@commands.command()
def reload(
    timeout: Annotated[float, seconds("--timeout", "How long to wait.")] = 30,
    json: AsJson = False,
) -> None:
    """Let all hosts read their configuration again.

    A SIGHUP does the same for one host. The command tells for each host whether it
    has reloaded.
    """
    from conserver.cli.reload import reload

    end(lambda: reload(Output(as_json=json), timeout_s=timeout))


@commands.command(epilog=examples("drain --timeout 60"))
def drain(
    config: ConfigFile = "",
    timeout: Annotated[float, seconds("--timeout", "How long to wait.")] = 600,
    json: AsJson = False,
) -> None:
    """Pause all lists and wait until nothing is in flight.

    `conserver resume` ends the pause.
    """
    from conserver.cli.drain import drain

    end(lambda: drain(Output(as_json=json), config, timeout_s=timeout))
