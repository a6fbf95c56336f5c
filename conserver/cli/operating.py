"""The commands that look into lists and change what becomes of them. Declarations only."""

from __future__ import annotations

from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, Limit, Uuid, end, examples
from conserver.cli.output import Output

commands = typer.Typer()


@commands.command("list", epilog=examples("list calls", "list calls --limit 0 --json"))
def list_(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    limit: Limit = 20,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Show what of a list runs, comes next, is parked, and why."""
    from conserver.cli.contents import show

    end(lambda: show(Output(as_json=json), name, config, limit=limit))


@commands.command(epilog=examples("cancel 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978"))
def cancel(uuid: Uuid, json: AsJson = False) -> None:
    """Take every copy of a vCon out of the queues.

    One that runs stops at its next link.
    """
    from conserver.cli.cancel import cancel

    end(lambda: cancel(Output(as_json=json), uuid))


@commands.command(epilog=examples("pause calls", "pause"))
def pause(
    lists: Annotated[list[str] | None, typer.Argument(metavar="LIST")] = None,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Stop taking from lists; what runs goes on.

    From all of the configuration's if none is named.
    """
    from conserver.cli.pause import pause

    end(lambda: pause(Output(as_json=json), lists or [], config))


@commands.command(epilog=examples("resume calls", "resume"))
def resume(
    lists: Annotated[list[str] | None, typer.Argument(metavar="LIST")] = None,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Take from paused lists again.

    From all that are paused if none is named.
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
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait.")
    ] = 30,
    json: AsJson = False,
) -> None:
    """Let all hosts read their configuration again.

    As a SIGHUP does; then tell what came of it on each host.
    """
    from conserver.cli.reload import reload

    end(lambda: reload(Output(as_json=json), timeout_s=timeout))


@commands.command(epilog=examples("drain --timeout 60"))
def drain(
    config: ConfigFile = "",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait.")
    ] = 600,
    json: AsJson = False,
) -> None:
    """Pause all lists and wait until nothing is in flight.

    `conserver resume` goes on.
    """
    from conserver.cli.drain import drain

    end(lambda: drain(Output(as_json=json), config, timeout_s=timeout))
