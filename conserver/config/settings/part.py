"""One subject's part of the settings, and how a setting is declared in it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """The fields of one subject. Nobody makes a part alone, so that none builds a validator."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)


def setting(variable: str, default: object, meaning: str) -> Any:
    """A field that is read from this environment variable.

    Args:
        meaning: one or two sentences for `conserver settings` and docs/configuration.md.
    """
    return Field(default=default, description=meaning, json_schema_extra={"variable": variable})
