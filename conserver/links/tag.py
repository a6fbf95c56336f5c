"""tag: adds fixed tags to every vCon.

    options:
      tags: [important, "team:blue", {source: mail}]

A single word becomes a tag whose value is the word itself (`important:important`). "name:value" and
"name=value" are split at the first colon or equals sign. A mapping gives one tag per entry. A tag
that exists already is not added again.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from conserver.links import LinkContext
from conserver.vcon.document import Vcon


class Options(BaseModel):
    """The tags to add. After validation, `tags` is a list of (name, value)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tags: tuple[tuple[str, str], ...] = Field(min_length=1)

    @field_validator("tags", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        entries = [value] if isinstance(value, dict) else value
        if not isinstance(entries, (list, tuple)):
            raise ValueError("a list of tags, or a mapping of names to values, is needed")
        pairs = [pair for entry in entries for pair in _pairs(entry)]
        for name, _ in pairs:
            if not name or ":" in name:
                raise ValueError(f"{name!r} cannot be a tag's name: empty, or with a colon in it")
        return pairs


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Add every tag of the options."""
    for name, value in options.tags:
        vcon.add_tag(name, value)
    return vcon


def _pairs(entry: Any) -> list[tuple[str, str]]:
    if isinstance(entry, dict):
        if set(entry) == {"name", "value"}:
            return [(_text(entry["name"]), _text(entry["value"]))]
        return [(_text(name), _text(value)) for name, value in entry.items()]
    if isinstance(entry, (list, tuple)) and len(entry) == 2:
        return [(_text(entry[0]), _text(entry[1]))]
    text = _text(entry)
    for sign in (":", "="):
        name, found, value = text.partition(sign)
        if found:
            return [(name.strip(), value.strip())]
    return [(text, text)]


def _text(value: Any) -> str:
    if isinstance(value, bool):  # YAML's spelling, not Python's True and False.
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"{value!r} is neither text nor a number")
