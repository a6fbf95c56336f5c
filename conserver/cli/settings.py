"""`conserver settings`: prints every setting with its value, its default and its meaning.

Passwords are hidden. A value that cannot be used is marked, and the exit code is then 78.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict

from conserver.cli.arguments import AsJson, typer_app
from conserver.cli.environment import load_settings
from conserver.cli.output import Output, note
from conserver.cli.tables import Marked
from conserver.config.settings import Settings, misspelt
from conserver.errors import EXIT_CONFIG, ConfigError, Problem
from conserver.operations import settings as listed
from conserver.operations import setup
from conserver.operations.settings import Setting

app = typer_app()


@app.command()
def settings(json: AsJson = False) -> int:
    """List every setting with its value and meaning."""
    output = Output(as_json=json)
    found, problems = _load()
    wrong = {problem.path for problem in problems}
    rows = listed.listing(found, os.environ)
    output.value([asdict(row) for row in rows])
    output.table(
        ("variable", "value", "default", "meaning"),
        [
            (row.name, _shown(row, wrong=row.name in wrong), row.default, row.meaning)
            for row in rows
        ],
    )
    for problem in problems:
        note(f"error: {problem}")
    for problem in misspelt(os.environ):
        note(f"warning: {problem}")
    return EXIT_CONFIG if problems else 0


def _load() -> tuple[Settings, Sequence[Problem]]:
    """The settings, with the defaults in place of unusable values, and the problems of these."""
    try:
        return load_settings(), ()
    except ConfigError as error:
        wrong = {problem.path for problem in error.problems}
        rest = {name: value for name, value in os.environ.items() if name not in wrong}
        if len(rest) == len(os.environ):
            raise
        return setup.load_settings(rest), error.problems


def _shown(row: Setting, *, wrong: bool) -> object:
    """The value in the syntax of the environment; bold if the environment sets it."""
    value = row.value
    if wrong:
        return Marked("cannot be used", "bad")
    if isinstance(value, bool):
        value = str(value).lower()
    return Marked(value, "bold") if row.given else value
