"""`conserver dlq`: prints, requeues and purges dead letters."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

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
    examples,
    typer_app,
)
from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.errors import EXIT_FAILURE, EXIT_USAGE, BootError
from conserver.operations import dead_letter_moves, dead_letters
from conserver.operations.connection import Client
from conserver.operations.dead_letters import DeadLetter, Filter, parse_age
from conserver.operations.lists import check_known

_FIRST = ("uuid", "list", "chain", "reason", "link", "storage", "error", "type")
_LAST = ("token", "payload_bytes", "traceback")

WhereName = Annotated[
    str, typer.Option("--link", "--storage", metavar="NAME", help="Only if this one failed.")
]
ReasonName = Annotated[
    str,
    typer.Option(
        "--reason", metavar="NAME", help="failed, rejected, unavailable, poison, time_limit ..."
    ),
]
Older = Annotated[str, typer.Option("--older", metavar="AGE", help="Dead for longer: 2h, 7d.")]
Newer = Annotated[str, typer.Option("--newer", metavar="AGE", help="Dead for less.")]

app = typer_app("Dead letters: list, show, requeue, purge.")


def _filter(
    lists: Sequence[str] | None,
    uuids: Sequence[str] | None,
    error: str,
    where: str,
    reason: str,
    older: str,
    newer: str,
) -> Filter:
    """The filter that the options of a command describe."""
    return Filter(
        names=tuple(lists or ()),
        uuids=tuple(uuids or ()),
        error=error,
        where=where,
        reason=reason,
        older_s=parse_age(older) if older else None,
        newer_s=parse_age(newer) if newer else None,
    )


@contextmanager
def _opened(wanted: Filter, config_file: str) -> Iterator[tuple[Client, list[str]]]:
    """A client, and the lists of the configuration, which is read only if the filter names lists.

    Raises:
        OperationError: "not_found": the filter names an unknown list.
    """
    settings = load_settings(config_file)
    configured = configured_lists(settings) if wanted.names else []
    with redis_client(settings) as client:
        check_known(client, wanted.names, configured)
        yield client, configured


_MOVES = {
    "requeue": (dead_letter_moves.requeue, "requeued"),
    "purge": (dead_letter_moves.purge, "purged"),
}
"""command -> its function, and the word for its result."""


@app.command("list", epilog=examples("dlq list --count", "dlq list --reason failed --newer 2h"))
def list_(
    lists: ListNames = None,
    error: ErrorText = "",
    where: WhereName = "",
    reason: ReasonName = "",
    older: Older = "",
    newer: Newer = "",
    limit: Limit = 50,
    count: Annotated[bool, typer.Option("--count", help="How many of each kind.")] = False,
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """List dead letters with their errors, oldest first."""
    output = Output(as_json=json)
    wanted = _filter(lists, None, error, where, reason, older, newer)
    with _opened(wanted, config) as (client, configured):
        if count:
            return _count(output, client, wanted, configured)
        found = dead_letters.listing(client, wanted, limit=limit)
        none = "" if found.letters else _none(client, wanted, configured)
    output.value([dead_letters.summary(letter) for letter in found.letters])
    output.table(
        ("age", "list", "uuid", "reason", "where", "attempts", "error"),
        [
            (
                _age_of(letter),
                letter.list,
                letter.name,
                letter.why.get("reason", ""),
                dead_letters.where_of(letter.why),
                letter.why.get("attempts", ""),
                dead_letters.error_of(letter.why),
            )
            for letter in found.letters
        ],
        none=none,
    )
    if found.more:
        note(f"there are more than {limit}: --limit 0 shows all, --count counts them")
    return 0


@app.command(epilog=examples("dlq show 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978"))
def show(uuid: Uuid, lists: ListNames = None, config: ConfigFile = "", json: AsJson = False) -> int:
    """Show everything about a dead letter, with its traceback."""
    output = Output(as_json=json)
    wanted = Filter(names=tuple(lists or ()), uuids=(uuid,))
    with _opened(wanted, config) as (client, _):
        letters = [dead_letters.details(found) for found in dead_letters.select(client, wanted)]
    output.value(letters)
    for n, letter in enumerate(letters):
        if n:
            output.line()
        for name, value in _for_people(letter).items():
            if value not in (None, "", [], {}):
                text = str(value)
                output.line(f"{name}: {text}" if "\n" not in text else f"{name}:\n{text.rstrip()}")
    if not letters:
        note(f"{uuid} is no dead letter")
    return 0 if letters else EXIT_FAILURE


@app.command(
    "purge",
    help="Delete dead letters for good.",
    epilog=examples("dlq purge --older 30d", "dlq purge --all --yes"),
)
@app.command(
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
    config: ConfigFile = "",
    json: AsJson = False,
) -> int:
    """The commands requeue and purge, which have the same filter. A purge deletes each letter with
    its payload; the document in Redis expires by itself.
    """
    output = Output(as_json=json)
    kind = str(context.info_name)
    wanted = _filter(lists, uuids, error, where, reason, older, newer)
    asks = kind == "purge" and not yes and sys.stdin.isatty()
    if not wanted.restricts and not everything:
        raise BootError("say which dead letters, or --all", EXIT_USAGE)
    if asks and not (wanted.restricts or dry_run or _confirmed(wanted, limit)):
        note("nothing was purged")
        return EXIT_FAILURE
    move, done_word = _MOVES[kind]
    moved = done = 0
    with _opened(wanted, config) as (client, configured):
        for progress in move(client, wanted, limit=limit, dry_run=dry_run, actor=actor()):
            moved, done = progress.matching, progress.done
        none = "" if moved else _none(client, wanted, configured)
    output.value({done_word: done, "matching": moved, "dry_run": dry_run})
    output.line(f"{moved} would be {done_word}" if dry_run else f"{moved} {done_word}")
    if not moved:
        note(none)
    # A script that names a uuid must learn from the exit code that it has no dead letter.
    return EXIT_FAILURE if wanted.uuids and not moved else 0


def _confirmed(wanted: Filter, limit: int) -> bool:
    """Whether the person at the terminal agrees to purge that many."""
    count = 0
    with redis_client(load_settings()) as client:
        for progress in dead_letter_moves.purge(
            client, wanted, limit=limit, dry_run=True, actor=actor()
        ):
            count = progress.matching
    note(f"{count} dead letters will be gone for good. Purge them? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _count(output: Output, client: Client, wanted: Filter, configured: Sequence[str]) -> int:
    kinds = [asdict(kind) for kind in dead_letters.count(client, wanted)]
    output.value(kinds)
    columns = ("count", "list", "reason", "where", "error")
    none = "" if kinds else _none(client, wanted, configured)
    output.table(columns, [tuple(kind.values()) for kind in kinds], none=none)
    return 0


def _for_people(details: dict[str, Any]) -> dict[str, Any]:
    """`details` with the most wanted fields first, and with the time as a date and an age."""
    shown = {name: details[name] for name in _FIRST if name in details}
    shown |= {name: value for name, value in details.items() if name not in _LAST}
    shown |= {name: details[name] for name in _LAST if name in details}
    at_s = shown.pop("died_at")
    if at_s is not None:
        at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        shown = {"died": f"{at}, {age_text(max(time.time() - at_s, 0.0))} ago", **shown}
    return shown


def _none(client: Client, wanted: Filter, configured: Sequence[str]) -> str:
    """The text for an empty result. It names the lists, links and storages that are unknown."""
    if wanted.uuids:
        matching = " that matches" if wanted != Filter(uuids=wanted.uuids) else ""
        text = f"no dead letter of {', '.join(wanted.uuids)}{matching}"
    else:
        text = "no dead letters" + (" that match" if wanted.restricts else "")
    parts = [text]
    for unknown in dead_letters.unknown_names(client, wanted, configured):
        what = "nobody has ever taken from" if unknown.kind == "list" else "none failed in"
        parts.append(f"{what} {unknown.name}" + (f" ({unknown.hint})" if unknown.hint else ""))
    return "; ".join(parts)


def _age_of(letter: DeadLetter) -> str:
    at_s = dead_letters.died_at(letter.why)
    return "" if at_s is None else age_text(max(time.time() - at_s, 0.0))
