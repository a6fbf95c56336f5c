"""What the declarations of several commands share: `typer_app`, `examples`, and arguments."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

ConfigFile = Annotated[
    str,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration; overrides CONSERVER_CONFIG_FILE.",
    ),
]


def number(*names: str, help_: str, show_default: bool = False) -> Any:
    """An option that takes a number, 0 to 10^9."""
    return typer.Option(
        *names, metavar="N", min=0, max=10**9, help=help_, show_default=show_default
    )


AsJson = Annotated[bool, typer.Option("--json", help="One JSON value instead of text.")]
ListNames = Annotated[
    list[str] | None, typer.Option("--list", "-l", metavar="NAME", help="Only of this list.")
]
ErrorText = Annotated[
    str, typer.Option("--error", metavar="TEXT", help="Whose error matches (regular expression).")
]
Uuid = Annotated[str, typer.Argument(metavar="UUID", show_default=False)]
Uuids = Annotated[list[str] | None, typer.Argument(metavar="UUID")]
Everything = Annotated[bool, typer.Option("--all", help="All; needed if no filter is given.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell how many it would be.")]
Limit = Annotated[int, number("--limit", help_="At most so many; 0: all.", show_default=True)]


def typer_app(help_: str | None = None) -> typer.Typer:
    """The `app` of a command's module, or, with a help of its own, of a group of commands.

    The function of a command has its help as docstring, and returns the exit code.
    """
    return typer.Typer(
        help=help_, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )


def seconds(name: str, help_: str, *, most: float = 10**9) -> Any:
    """An option that takes a number of seconds, from 0."""
    return typer.Option(name, metavar="SECONDS", min=0, max=most, callback=_no_nan, help=help_)


def _no_nan(value: float) -> float:
    """Refuses NaN, which passes the checks of min and max."""
    if math.isnan(value):
        raise typer.BadParameter("nan is no number of seconds")
    return value


def examples(*lines: str) -> str:
    """The end of a command's help: example command lines."""
    # The \\b keeps Click from joining the lines.
    return "\b\nExamples:\n" + "\n".join(f"  conserver {line}" for line in lines)
