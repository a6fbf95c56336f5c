"""The arguments of `conserver dlq list|show|requeue|purge`; letters.py does the work.

It also holds what cli.py's declarations share with these, because cli.py imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from conserver.cli.base import Output, execute
from conserver.errors import EXIT_USAGE, BootError

if TYPE_CHECKING:
    from conserver.cli.letters import Filter

app = typer.Typer(no_args_is_help=True, help="Dead letters: list, show, requeue, purge.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON value instead of text.")]
ListNames = Annotated[
    list[str] | None, typer.Option("--list", "-l", metavar="NAME", help="Only of this list.")
]
ErrorText = Annotated[
    str, typer.Option("--error", metavar="TEXT", help="Whose error has this (regular expression).")
]
WhereName = Annotated[
    str, typer.Option("--link", "--storage", metavar="NAME", help="That failed in this one.")
]
ReasonName = Annotated[
    str,
    typer.Option(
        "--reason", metavar="NAME", help="failed, rejected, unavailable, poison, time_limit ..."
    ),
]
Older = Annotated[str, typer.Option("--older", metavar="AGE", help="Dead for longer: 2h, 7d.")]
Newer = Annotated[str, typer.Option("--newer", metavar="AGE", help="Dead for less.")]
Uuid = Annotated[str, typer.Argument(metavar="UUID", show_default=False)]
Uuids = Annotated[list[str] | None, typer.Argument(metavar="UUID")]
Everything = Annotated[bool, typer.Option("--all", help="Every one, where nothing else is said.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell how many it would be.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many; 0: all.")]


def end(action: Callable[[], int]) -> None:
    """Runs a command and ends with its exit code."""
    raise typer.Exit(execute(action))


@app.command("list")
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
    """List dead letters with what killed them, oldest first."""
    from conserver.cli.letters import list_letters

    def action() -> int:
        wanted = _filter(lists, None, error, where, reason, older, newer)
        return list_letters(Output(as_json=json), wanted, limit=limit, count=count)

    end(action)


@app.command()
def show(uuid: Uuid, lists: ListNames = None, json: AsJson = False) -> None:
    """Show all that is known of a dead letter, its traceback included."""
    from conserver.cli.letters import show_letter

    end(lambda: show_letter(Output(as_json=json), uuid, lists or []))


@app.command()
def requeue(
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
    json: AsJson = False,
) -> None:
    """Send dead letters to work again; they go on where they stopped."""
    from conserver.cli.letters import requeue_letters

    def action() -> int:
        wanted = _filter(lists, uuids, error, where, reason, older, newer)
        _check(wanted, everything=everything)
        return requeue_letters(Output(as_json=json), wanted, dry_run=dry_run, limit=limit)

    end(action)


@app.command()
def purge(
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
    json: AsJson = False,
) -> None:
    """Forget dead letters for good."""
    from conserver.cli.letters import purge_letters

    def action() -> int:
        wanted = _filter(lists, uuids, error, where, reason, older, newer)
        _check(wanted, everything=everything)
        return purge_letters(Output(as_json=json), wanted, dry_run=dry_run, limit=limit)

    end(action)


def _filter(
    lists: list[str] | None,
    uuids: list[str] | None,
    error: str,
    where: str,
    reason: str,
    older: str,
    newer: str,
) -> Filter:
    from conserver.cli.letters import Filter, parse_age

    return Filter(
        names=tuple(lists or ()),
        uuids=tuple(uuids or ()),
        error=error,
        where=where,
        reason=reason,
        older_s=parse_age(older) if older else None,
        newer_s=parse_age(newer) if newer else None,
    )


def _check(wanted: Filter, *, everything: bool) -> None:
    """A command that moves letters does not take silence for "all of them"."""
    if not wanted.restricts and not everything:
        raise BootError("say which dead letters, or --all", EXIT_USAGE)
