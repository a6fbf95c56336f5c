"""`conserver settings`: prints every setting with its value, its default and its meaning."""

from __future__ import annotations

import os
from dataclasses import asdict

from conserver.cli.environment import load_settings
from conserver.cli.output import Output, note
from conserver.cli.tables import Marked
from conserver.config.settings import misspelt
from conserver.operations import settings
from conserver.operations.settings import Setting


def show_settings(output: Output) -> int:
    """Prints the settings of this environment. Passwords are hidden."""
    rows = settings.listing(load_settings(), os.environ)
    output.value([asdict(row) for row in rows])
    output.table(
        ("variable", "value", "default", "meaning"),
        [(row.name, _shown(row), row.default, row.meaning) for row in rows],
    )
    for problem in misspelt(os.environ):
        note(f"warning: {problem}")
    return 0


def _shown(row: Setting) -> object:
    """The value as the environment would have it; one that the environment sets stands out."""
    value = row.value
    if isinstance(value, bool):
        value = str(value).lower()
    return Marked(value, "bold") if row.given else value
