"""`conserver settings`: prints every setting with its value, its default and its meaning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict

from conserver.cli.environment import load_settings
from conserver.cli.output import Output, note
from conserver.cli.tables import Marked
from conserver.config.settings import Settings, misspelt
from conserver.errors import EXIT_CONFIG, ConfigError, Problem
from conserver.operations import settings, setup
from conserver.operations.settings import Setting


def show_settings(output: Output) -> int:
    """Prints the settings of this environment. Passwords are hidden.

    Returns:
        0, or 78 if a value cannot be used; its setting is then marked, all others are shown.
    """
    found, problems = _load()
    wrong = {problem.path for problem in problems}
    rows = settings.listing(found, os.environ)
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
