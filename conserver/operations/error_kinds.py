"""Removes uuids and names from error texts, so that errors of the same cause become equal."""

from __future__ import annotations

import re

UUID, NAME = "<uuid>", "<name>"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def kind_of(error: str, name: str) -> str:
    """The error text with <uuid> for each uuid.

    name: the item's name; it becomes <name> if it is no uuid. "" for none.
    """
    if name and name in error and not _UUID.fullmatch(name):
        error = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", NAME, error)
    return _UUID.sub(UUID, error)


def common_part(kind: str) -> str:
    """The longest part of a kind without <uuid> and <name>: all its errors contain this text."""
    return max(re.split(f"{UUID}|{NAME}", kind), key=len).strip()
