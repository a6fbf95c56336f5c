"""Errors without what differs from item to item, so that equal causes are seen as one."""

from __future__ import annotations

import re

UUID, NAME = "<uuid>", "<name>"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def kind_of(error: str, name: str) -> str:
    """The error with its uuids as UUID. name: the item's; as NAME where it is no uuid."""
    if name:
        shown = UUID if _UUID.fullmatch(name) else NAME
        error = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", shown, error)
    return _UUID.sub(UUID, error)


def common_part(kind: str) -> str:
    """Of a kind the longest part that all of its errors have."""
    return max(re.split(f"{UUID}|{NAME}", kind), key=len).strip()
