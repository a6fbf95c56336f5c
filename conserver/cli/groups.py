"""Declares the groups of commands: `conserver dlq`, `jobs`, `schedules` and `token`."""

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
    Job,
    Limit,
    ListNames,
    Newer,
    Older,
    ReasonName,
    Uuid,
    Uuids,
    WhereName,
    end,
    examples,
)
from conserver.cli.output import Output

_dlq = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, requeue, purge.")
_jobs = typer.Typer(no_args_is_help=True, help="Jobs: list, show, cancel.")
_schedules = typer.Typer(no_args_is_help=True, help="Schedules: list, run, pause, resume.")
_token = typer.Typer(no_args_is_help=True, help="Tokens of the HTTP API: add, list, revoke.")
GROUPS = {"dlq": _dlq, "jobs": _jobs, "schedules": _schedules, "token": _token}


@_jobs.command("list", epilog=examples("jobs list --status failed"))
def list_jobs(
    name: Annotated[
        str, typer.Option("--list", "-l", metavar="NAME", help="Only of this list.")
    ] = "",
    status: Annotated[
        str, typer.Option("--status", metavar="STATUS", help="queued, processing, failed ...")
    ] = "",
    limit: Limit = 50,
    json: AsJson = False,
) -> None:
    """List jobs with their statuses, newest first."""
    from conserver.cli.jobs import list_jobs

    end(lambda: list_jobs(Output(as_json=json), name, status, limit=limit))


@_jobs.command("show")
def show_job(job: Job, json: AsJson = False) -> None:
    """Show one job: where it is, how far, and how it ended."""
    from conserver.cli.jobs import show

    end(lambda: show(Output(as_json=json), job))


@_jobs.command("cancel")
def cancel_job(job: Job, json: AsJson = False) -> None:
    """Take a job out of the queues.

    A running job stops before its next link.
    """
    from conserver.cli.jobs import cancel

    end(lambda: cancel(Output(as_json=json), job))


TokensFile = Annotated[
    str,
    typer.Option("--file", "-f", metavar="FILE", help="Overrides CONSERVER_API_TOKENS_FILE."),
]
TokenName = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@_token.command("add", epilog=examples("token add shop --role submit --list calls"))
def add_token(
    name: TokenName,
    roles: Annotated[
        list[str],
        typer.Option("--role", "-r", metavar="ROLE", help="submit, read, operate or admin."),
    ],
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", "-l", metavar="NAME", help="Only for this list; else for all."),
    ] = None,
    jobs_at_once: Annotated[
        int,
        typer.Option(
            min=0,
            max=10**9,
            metavar="N",
            show_default=False,
            help="Most jobs unfinished at once; default: CONSERVER_API_JOBS_AT_ONCE.",
        ),
    ] = 0,
    jobs_per_minute: Annotated[
        int,
        typer.Option(
            min=0,
            max=10**9,
            metavar="N",
            show_default=False,
            help="Most jobs submitted in a minute; default: CONSERVER_API_JOBS_PER_MINUTE.",
        ),
    ] = 0,
    bytes_per_day: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            show_default=False,
            help="Most bytes sent in a day, such as 10G; default: CONSERVER_API_BYTES_PER_DAY.",
        ),
    ] = "0",
    file: TokensFile = "",
    json: AsJson = False,
) -> None:
    """Make a token and print it, once. Only its SHA-256 is stored."""
    from conserver.cli.token import add

    output = Output(as_json=json)
    limits = (jobs_at_once, bytes_per_day, jobs_per_minute)
    end(lambda: add(output, name, roles, lists or [], file, *limits))


@_token.command("list")
def list_tokens(file: TokensFile = "", json: AsJson = False) -> None:
    """List the tokens: names, roles, lists, limits."""
    from conserver.cli.token import show

    end(lambda: show(Output(as_json=json), file))


@_token.command("revoke")
def revoke_token(name: TokenName, file: TokensFile = "", json: AsJson = False) -> None:
    """Revoke a token."""
    from conserver.cli.token import revoke

    end(lambda: revoke(Output(as_json=json), name, file))


@_dlq.command("list", epilog=examples("dlq list --count", "dlq list --reason failed --newer 2h"))
def list_(
    lists: ListNames = None,
    error: ErrorText = "",
    where: WhereName = "",
    reason: ReasonName = "",
    older: Older = "",
    newer: Newer = "",
    limit: Limit = 50,
    count: Annotated[bool, typer.Option("--count", help="How many of each kind.")] = False,
    json: AsJson = False,
) -> None:
    """List dead letters with their errors, oldest first."""
    from conserver.cli.dlq import filter_of, list_letters

    def action() -> int:
        wanted = filter_of(lists, None, error, where, reason, older, newer)
        return list_letters(Output(as_json=json), wanted, limit=limit, count=count)

    end(action)


@_dlq.command(epilog=examples("dlq show 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978"))
def show(uuid: Uuid, lists: ListNames = None, json: AsJson = False) -> None:
    """Show everything about a dead letter, with its traceback."""
    from conserver.cli.dlq import show_letter

    end(lambda: show_letter(Output(as_json=json), uuid, lists or []))


@_dlq.command(
    "purge",
    help="Delete dead letters for good.",
    epilog=examples("dlq purge --older 30d", "dlq purge --all --yes"),
)
@_dlq.command(
    "requeue",
    help="Queue dead letters again; each goes on at its last checkpoint.",
    epilog=examples("dlq requeue --link transcribe --error CUDA --dry-run"),
)
def move(
    context: typer.Context,
    uuids: Uuids = None,
    lists: ListNames = None,
    error: ErrorText = "",
    where: WhereName = "",
    reason: ReasonName = "",
    older: Older = "",
    newer: Newer = "",
    limit: Limit = 0,
    everything: Everything = False,
    dry_run: DryRun = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask on a terminal before purge --all.")
    ] = False,
    json: AsJson = False,
) -> None:
    """The commands requeue and purge, which have the same filter."""
    from conserver.cli.dlq import filter_of, move_letters

    def action() -> int:
        wanted = filter_of(lists, uuids, error, where, reason, older, newer)
        return move_letters(
            Output(as_json=json),
            wanted,
            str(context.info_name),
            everything=everything,
            dry_run=dry_run,
            limit=limit,
            asks=not yes and sys.stdin.isatty(),
        )

    end(action)


ScheduleName = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@_schedules.command("list")
def list_schedules(config: ConfigFile = "", json: AsJson = False) -> None:
    """List schedules: action, next time, and how the last run ended."""
    from conserver.cli.schedules import list_schedules

    end(lambda: list_schedules(Output(as_json=json), config))


@_schedules.command("run", epilog=examples("schedules run nightly"))
def run_schedule(name: ScheduleName, config: ConfigFile = "", json: AsJson = False) -> None:
    """Run a schedule now, between its times. It may be paused."""
    from conserver.cli.schedules import change

    end(lambda: change(Output(as_json=json), config, name, "run"))


@_schedules.command("pause")
def pause_schedule(name: ScheduleName, config: ConfigFile = "", json: AsJson = False) -> None:
    """Pause a schedule: its times pass without a run. A begun run goes on."""
    from conserver.cli.schedules import change

    end(lambda: change(Output(as_json=json), config, name, "pause"))


@_schedules.command("resume")
def resume_schedule(name: ScheduleName, config: ConfigFile = "", json: AsJson = False) -> None:
    """Let a schedule fire again, from its next time on."""
    from conserver.cli.schedules import change

    end(lambda: change(Output(as_json=json), config, name, "resume"))
