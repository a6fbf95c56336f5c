"""Lists every setting with its value, its default and its meaning. Passwords are hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conserver.config import settings
from conserver.config.settings import Settings
from conserver.telemetry.redact import redact_fields


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. given: whether the environment sets it."""

    name: str
    value: Any
    default: str
    given: bool
    meaning: str


def listing(found: Settings, environ: Mapping[str, str]) -> list[Setting]:
    """All settings, in the order of docs/configuration.md."""
    return [
        Setting(
            name=variable.name,
            value=_shown(variable.name, getattr(found, variable.field)),
            default=variable.default,
            given=bool(environ.get(variable.name, "").strip()),
            meaning=variable.meaning,
        )
        for variable in settings.variables()
    ]


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return redact_fields(value, name)
