"""The command line of `conserver`: which commands there are, and how one is found and run.

Each command is declared in cli/<name>.py. Only the module of the command that runs is imported, so
that no command imports the libraries of another one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from conserver import __version__
from conserver.cli.output import execute
from conserver.process.imports import cheap_imports

COMMANDS = {
    "run": "Run the daemon until SIGTERM.",
    "api": "Serve the HTTP API and the dashboard alone, until SIGTERM.",
    "check": "Check settings, configuration, links and storages.",
    "settings": "List every setting with its value and meaning.",
    "health": "Tell whether a host of this machine takes items.",
    "status": "Show lists, hosts, workers, storages, and what is wrong.",
    "doctor": "Examine Redis (persistence, rights, clock) and plugins.",
    "forget": "Make room in Redis: delete documents before they expire.",
    "reclaim": "Return to their lists the items of workers that no host knows.",
    "submit": "Put vCons and recordings on a list.",
    "transcribe": "Transcribe audio files, without any queue; no Redis is needed.",
    "get": "Print a vCon, from Redis or from a storage.",
    "where": "Tell where a vCon is, or how it ended.",
    "list": "Show the items of a list: running, waiting and parked ones.",
    "ps": "Show all items that workers hold, with link and duration.",
    "cancel": "Take every copy of a vCon out of the queues.",
    "retry": "Try parked items now that wait for a retry or a storage.",
    "empty": "Take all waiting items out of lists, for good.",
    "pause": "Stop taking items from lists; running items go on.",
    "resume": "Take items from paused lists again.",
    "audit": "Tell who changed what: the last 1000 changes, newest first.",
    "reload": "Let all hosts read their configuration again.",
    "drain": "Pause all lists and wait until nothing is in flight.",
    "dlq": "Dead letters: list, show, requeue, purge.",
    "jobs": "Jobs: list, show, cancel.",
    "schedules": "Schedules: list, run, pause, resume.",
    "token": "Tokens of the HTTP API: add, list, revoke.",
}
"""command -> what `conserver --help` says of it: the first sentence of its own help."""


def load(name: str) -> Any:
    """The command or the group of commands, as Typer builds it from its module's `app`."""
    with cheap_imports():
        module = import_module(f"conserver.cli.{name}")
    return typer.main.get_command(module.app)


class _Commands(TyperGroup):
    """All commands. Help and completion use COMMANDS; only the command that runs is loaded."""

    def __init__(self, **given: Any) -> None:
        listed = [TyperCommand(name, help=line) for name, line in COMMANDS.items()]
        super().__init__(**{**given, "commands": listed})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        # There is no name while a shell completes the name of a command.
        return name, name and load(name), rest

    def invoke(self, ctx: Any) -> None:
        """Runs the command, and ends with the exit code that it returns."""
        invoke = super().invoke
        raise typer.Exit(execute(lambda: invoke(ctx)))


_app = typer.Typer(
    name="conserver",
    cls=_Commands,
    help="Takes conversations from Redis lists through chains of links into storages.",
    no_args_is_help=True,
    rich_markup_mode=None,  # Plain help fits a narrow terminal, and grep finds words in it.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def run_cli(words: Sequence[str]) -> int:
    """Runs a command line (without the program's name) and returns its exit code."""
    try:
        _app(list(words), prog_name="conserver")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"conserver {__version__}\n")
        raise typer.Exit


@_app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    pass
