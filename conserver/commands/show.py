"""`conserver settings`: every setting with its value, its default and its meaning."""

from __future__ import annotations

import os

from pydantic import SecretStr

from conserver import settings
from conserver.commands.base import Output, load_settings, note
from conserver.redact import redact_text


def show_settings(output: Output) -> int:
    """Lists the settings as they are here. Passwords are not shown."""
    found = load_settings()
    rows = []
    for variable in settings.variables():
        value = getattr(found, variable.field)
        if isinstance(value, SecretStr):
            value = redact_text(value.get_secret_value())
        given = bool(os.environ.get(variable.name, "").strip())
        rows.append(
            {
                "name": variable.name,
                "value": value,
                "default": variable.default,
                "given": given,
                "meaning": variable.meaning,
            }
        )
    output.value(rows)
    output.table(
        "",
        ("variable", "value", "from", "meaning"),
        [
            (
                row["name"],
                row["value"],
                "environment" if row["given"] else "default",
                row["meaning"],
            )
            for row in rows
        ],
    )
    for problem in settings.misspelt(os.environ):
        note(f"warning: {problem}")
    return 0
