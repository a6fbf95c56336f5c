"""What `conserver retry` and `conserver empty` share: options, and how the result is printed."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Annotated

import typer

from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import lists, waiting, words
from conserver.operations.connection import Client
from conserver.operations.dead_letter_moves import Progress
from conserver.operations.waiting import WaitingFilter

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

_LEFT_OUT = {
    "rate": "wait for a place of a rate: before it they would only wait again",
    "throttled": "wait until the server of their link takes calls again",
    "later": "were submitted for later: --cause later includes them",
    waiting.UNKNOWN_AGE: "stay: nobody knows since when they wait",
}


def last_of(steps: Generator[Progress, None, None]) -> Progress:
    """Runs an operation to its end, and returns its result."""
    *_, last = steps
    return last


def end(
    output: Output,
    wanted: WaitingFilter,
    last: Progress,
    told: Mapping[str, object],
    text: str,
    none: str,
) -> int:
    """Prints what became of the items, or that there are `none`; returns the exit code."""
    output.value({**told, "matching": last.matching, "left_out": dict(last.left_out)})
    output.line(f"{words.items(last.matching)} {text}")
    for why, count in last.left_out.items():
        note(f"{count} {_LEFT_OUT[why]}")
    if none:
        note(none)
    return EXIT_FAILURE if wanted.uuids and not last.matching else 0


def none_text(client: Client, wanted: WaitingFilter, what: str, configured: list[str]) -> str:
    """The text for an empty result. It names the lists of the filter that were never served."""
    whose = f"of {', '.join(wanted.uuids)} " if wanted.uuids else "that matches "
    parts = [f"nothing {whose}{what}"]
    for unknown in lists.unknown(client, set(wanted.names) - set(configured)):
        hint = f" ({unknown.hint})" if unknown.hint else ""
        parts.append(f"nobody has ever taken from {unknown.name}{hint}")
    return "; ".join(parts)
