"""What `conserver retry` and `conserver empty` share: options, and how the result is printed."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Annotated

import typer

from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import waiting, words
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
    verb: str,
) -> int:
    """Prints what became of the items, and returns the exit code.

    verb: what no item does if none matched: "is parked", "waits".
    """
    output.value({**told, "matching": last.matching, "left_out": dict(last.left_out)})
    output.line(f"{words.items(last.matching)} {text}")
    for why, count in last.left_out.items():
        note(f"{count} {_LEFT_OUT[why]}")
    if last.matching:
        return 0
    whose = f"of {', '.join(wanted.uuids)}" if wanted.uuids else "that matches"
    note(f"nothing {whose} {verb}")
    return EXIT_FAILURE if wanted.uuids else 0
