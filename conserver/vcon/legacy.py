"""Converts a vCon to version 0.0.1 of the format, for readers that know only that version."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from conserver.vcon.document import numbered
from storage.reading import structured

VERSION = "0.0.1"


def to_legacy(vcon_dict: dict[str, Any], target_version: str) -> dict[str, Any]:
    """A deep copy with the member names of version 0.0.1, like vcon-server's `to_legacy`.

    A body that is JSON in a string becomes an object with the encoding `none`, unless orjson could
    not write a document with that object, which is nested too deeply. A signed or encrypted vCon
    has no members to rename, and is copied unchanged.

    Raises:
        ValueError: `target_version` is not "0.0.1".
    """
    if target_version != VERSION:
        raise ValueError(f"egress_format_version must be {VERSION}, not {target_version!r}")
    legacy = copy.deepcopy(vcon_dict)
    if "payload" in legacy or "ciphertext" in legacy:
        return legacy
    for member in ("dialog", "analysis", "attachments"):
        for _, part in numbered(legacy.get(member) or []):
            names = {
                "schema": "schema_version",
                "mediatype": "mimetype",
                "critical": "must_support",
            }
            if member == "attachments" and "type" not in part:
                names["purpose"] = "type"
            _rename(part, names)
            if member != "dialog" and part.get("encoding") == "json":
                body = structured(part)
                if isinstance(body, dict | list) and _can_be_written([[[body]]]):
                    part.update(body=body, encoding="none")
    _rename(legacy, {"amended": "appended", "critical": "must_support"})
    return {"group": [], "redacted": {}, "appended": None, **legacy, "vcon": target_version}


def _can_be_written(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _rename(part: dict[str, Any], names: dict[str, str]) -> None:
    for name, old in names.items():
        if name in part:
            value = part.pop(name)
            part.setdefault(old, value)
