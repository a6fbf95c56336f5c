"""A stand-in for vcon-server's class `vcon.Vcon`: a dict with helper methods.

It behaves like that class, which for example writes JSON bodies as strings. Conserver's own class
is conserver.vcon.document.Vcon.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from datetime import UTC, datetime
from os import urandom
from typing import Any
from uuid import UUID

from conserver.vcon.document import is_tags, numbered, structured, tag_texts

_ENCODINGS = ("json", "none", "base64url")
_LISTS = ("parties", "dialog", "attachments", "analysis")


class Vcon:
    """A vCon as a dict (`vcon_dict`) in which all four lists exist."""

    def __init__(self, vcon_dict: dict[str, Any] | str | None = None) -> None:
        text = vcon_dict if isinstance(vcon_dict, str) else json.dumps(vcon_dict or {})
        self.vcon_dict: dict[str, Any] = json.loads(text)
        # Modules expect all lists. Those that are added here and stay empty are not written.
        self._added = [name for name in _LISTS if self.vcon_dict.get(name) is None]
        self._nulls = [name for name in self._added if name in self.vcon_dict]
        for name in self._added:
            self.vcon_dict[name] = []

    @classmethod
    def build_from_json(cls, json_string: str) -> Vcon:
        """Parse JSON."""
        return cls(json_string)

    @classmethod
    def build_new(cls) -> Vcon:
        """An empty vCon with a new uuid."""
        bits = int(time.time() * 1000) << 80 | int.from_bytes(urandom(10))
        bits = bits & ~(0xF << 76) & ~(0b11 << 62) | 8 << 76 | 0b10 << 62
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return cls({"vcon": "0.4.0", "uuid": str(UUID(int=bits)), "created_at": now})

    @staticmethod
    def decoded_body(entry: dict[str, Any] | None) -> Any:
        """The body of an attachment or analysis; if it holds JSON, the parsed value."""
        if not entry:
            return None
        # Not the bytes of base64url: modules of vcon-server decode those themselves.
        return entry.get("body") if entry.get("encoding") == "base64url" else structured(entry)

    @staticmethod
    def with_decoded_body(entry: dict[str, Any] | None) -> dict[str, Any] | None:
        """A copy of the entry with its body decoded."""
        return {**entry, "body": Vcon.decoded_body(entry)} if entry else None

    @property
    def tags(self) -> dict[str, Any] | None:
        """The first attachment with tags; None without one."""
        return self.find_attachment_by_purpose("tags")

    def get_tag(self, tag_name: str) -> str | None:
        """The value of the first tag of that name; None without one."""
        for _, entry in numbered(self.vcon_dict["attachments"]):
            for tag in (tag_texts(entry) or ()) if is_tags(entry) else ():
                name, found, value = tag.partition(":")
                if found and name == tag_name:
                    return value
        return None

    def add_tag(self, tag_name: str, tag_value: object) -> None:
        """Add a tag to the first attachment whose tags can be read, else to a new one."""
        holder, tags = next(
            (
                (entry, found)
                for _, entry in numbered(self.vcon_dict["attachments"])
                if is_tags(entry) and (found := tag_texts(entry)) is not None
            ),
            (None, []),
        )
        if holder is None:
            holder = {"purpose": "tags"}
            self.vcon_dict["attachments"].append(holder)
        holder.update(body=json.dumps([*tags, f"{tag_name}:{tag_value}"]), encoding="json")

    def find_attachment_by_purpose(self, purpose: str) -> dict[str, Any] | None:
        """The first attachment with that `purpose`, or with that as its older `type`."""
        for _, entry in numbered(self.vcon_dict["attachments"]):
            if purpose in (entry.get("purpose"), entry.get("type")):
                return entry
        return None

    def find_attachment_by_type(self, type: str) -> dict[str, Any] | None:  # noqa: A002 - its name.
        """The same as find_attachment_by_purpose, by its older name."""
        return self.find_attachment_by_purpose(type)

    def add_attachment(self, *, body: Any, type: str, encoding: str = "none") -> None:  # noqa: A002
        """Add an attachment; a dict or list is written as a string of JSON."""
        text, encoding = _encoded(body, encoding)
        self.vcon_dict["attachments"].append({"type": type, "body": text, "encoding": encoding})

    def find_analysis_by_type(self, type: str) -> dict[str, Any] | None:  # noqa: A002
        """The first analysis of that type; None without one."""
        found = (a for _, a in numbered(self.vcon_dict["analysis"]) if a.get("type") == type)
        return next(found, None)

    def add_analysis(
        self,
        *,
        type: str,  # noqa: A002
        dialog: Any,
        vendor: str,
        body: Any,
        encoding: str = "none",
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Add an analysis; a dict or list is written as a string of JSON."""
        text, encoding = _encoded(body, encoding)
        entry = {
            "type": type,
            "dialog": dialog,
            "vendor": vendor,
            "body": text,
            "encoding": encoding,
        }
        self.vcon_dict["analysis"].append({**entry, **(extra or {})})

    def add_party(self, party: dict[str, Any]) -> None:
        """Add a party."""
        self.vcon_dict["parties"].append(party)

    def find_party_index(self, by: str, val: object) -> int | None:
        """The index of the first party with the value `val` at the dotted path `by`."""
        return next((i for i, p in enumerate(self.parties) if _at(p, by) == val), None)

    def find_dialog(self, by: str, val: object) -> dict[str, Any] | None:
        """The first dialog with the value `val` at the dotted path `by`."""
        return next((entry for entry in self.dialog if _at(entry, by) == val), None)

    def add_dialog(self, dialog: dict[str, Any]) -> None:
        """Add a dialog."""
        self.vcon_dict["dialog"].append(dialog)

    def to_json(self) -> str:
        """The vCon as JSON."""
        return json.dumps(self._written())

    def dumps(self) -> str:
        """The vCon as JSON."""
        return self.to_json()

    def to_dict(self) -> dict[str, Any]:
        """A deep copy of the dict."""
        copy: dict[str, Any] = json.loads(self.to_json())
        return copy

    def _written(self) -> dict[str, Any]:
        """The dict without the lists that were added and are still empty."""
        written: dict[str, Any] = {}
        for name, value in self.vcon_dict.items():
            if value != [] or name not in self._added:
                written[name] = value
            elif name in self._nulls:
                written[name] = None
        return written

    @property
    def hash(self) -> str:
        """The SHA-256 of the JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __getattr__(self, name: str) -> Any:
        """A top-level member by its name; None if it does not exist."""
        if name.startswith("_") or name == "vcon_dict":
            raise AttributeError(name)
        return self.vcon_dict.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LISTS:
            self.vcon_dict[name] = value
        else:
            super().__setattr__(name, value)


def _encoded(body: Any, encoding: str) -> tuple[Any, str]:
    """The body as text and its encoding. Raises ValueError if they do not match."""
    if encoding not in _ENCODINGS:
        raise ValueError(f"encoding must be one of {', '.join(_ENCODINGS)}, not {encoding}")
    if isinstance(body, (dict, list)):
        return json.dumps(body), "json"
    if encoding == "json":
        json.loads(body)
    elif encoding == "base64url":
        try:
            base64.urlsafe_b64decode(body)
        except binascii.Error as error:
            raise ValueError(f"the body is not base64url: {error}") from None
    return body, encoding


def _at(value: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
