"""jq: filters vCons by a jq expression.

    options:
      filter: '[.dialog[]? | select(.type == "recording")] | length > 0'
      forward_matches: true      false: vCons that match are filtered instead

The first result decides. No result, null, false, 0, "", [] and {} mean that the vCon does not
match. `conserver check` reports an invalid expression. If an expression fails on a vCon (a member
has another type, for example), the vCon is dead-lettered with jq's message.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from conserver.errors import Rejected
from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """The expression, and whether matches are forwarded or filtered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: str = "."
    forward_matches: bool = True

    @field_validator("filter")
    @classmethod
    def _check_filter(cls, value: str) -> str:
        _program(value)
        return value


def prepare(options: Options) -> None:
    """Compile the expression."""
    _program(options.filter)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon | None:
    """The vCon, or None if it is filtered."""
    results = _program(options.filter).input_text(vcon.dump().decode())
    try:
        first = next(iter(results), None)
    except ValueError as error:
        raise Rejected(f"jq: {error}") from None
    return vcon if bool(first) == options.forward_matches else None


@functools.lru_cache(maxsize=256)
def _program(expression: str) -> Any:
    try:
        jq = importlib.import_module("jq")
    except ModuleNotFoundError:
        raise ValueError("the jq link needs the package jq: install conserver[links]") from None
    return jq.compile(expression)
