"""The base class for the settings of one subject, and `setting`, which declares one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """The settings of one subject. Only Settings is instantiated, so validators are not built."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)


def setting(variable: str, default: object, meaning: str) -> Any:
    """Declares a setting that is read from the environment variable `variable`.

    Args:
        meaning: one or two sentences for `conserver settings` and docs/configuration.md.
    """
    return Field(default=default, description=meaning, json_schema_extra={"variable": variable})
