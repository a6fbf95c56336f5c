"""`conserver settings`: every setting with its value, its default and its meaning."""

from __future__ import annotations

import os
from typing import Any

from pydantic import SecretStr

from conserver.cli.base import Output, load_settings, note
from conserver.cli.tables import Marked
from conserver.config import settings
from conserver.telemetry.redact import redact_text


def show_settings(output: Output) -> int:
    """Lists the settings as they are here. Passwords are not shown."""
    found = load_settings()
    rows = []
    for variable in settings.variables():
        value = getattr(found, variable.field)
        if isinstance(value, SecretStr):
            value = redact_text(value.get_secret_value())
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
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
        ("variable", "value", "default", "meaning"),
        [(row["name"], _shown(row), row["default"], row["meaning"]) for row in rows],
    )
    for problem in settings.misspelt(os.environ):
        note(f"warning: {problem}")
    return 0


def _shown(row: dict[str, Any]) -> object:
    """The value as the environment would say it; what comes from there stands out."""
    value = row["value"]
    if isinstance(value, bool):
        value = str(value).lower()
    return Marked(value, "bold") if row["given"] else value
