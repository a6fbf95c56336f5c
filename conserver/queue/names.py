"""The name of an item, the same in logs, `status`, dead letters, jobs and all commands.

The name is the vCon's uuid, if the payload contains it, even in a document that is invalid or was
cut short. The name of a document without a uuid is an id that is derived from its bytes: a document
may contain personal data, so its text is never shown. A payload that is neither a uuid nor a
document is named by its first characters.
"""

from __future__ import annotations

import re

import orjson

from conserver.errors import Rejected
from conserver.queue.record import parse, split_job
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid, uuid8_of

NAME_CHARS = 64
"""Most characters of a name that is no uuid."""
_GLIMPSE_BYTES = 65_536
_UUID_MEMBER = re.compile(rb'"uuid"\s*:\s*"([\w.:@+=-]{1,128})"')


def name_of(payload: bytes) -> str:
    """The name of the item with this payload: `<uuid>`, `<uuid>#<job>` or a document.

    Two payloads that are no uuid and begin with the same characters have the same name.
    """
    if payload[:1] == b"{":
        return _name_of_document(payload)
    text = split_job(payload)[0].decode("utf-8", "replace").strip()
    if usable_uuid(text):
        return text
    # Nobody could type an unprintable character.
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return shown if len(shown) <= NAME_CHARS else shown[: NAME_CHARS - 3] + "..."


def name_unparsed(payload: bytes) -> str:
    """A name for log lines, made without parsing a document: parsing may be what kills workers.

    It is the first uuid in the document's first 64 KiB (perhaps another object's), or else a UUIDv8
    of the bytes.
    """
    if payload[:1] != b"{":
        return name_of(payload)
    match = _UUID_MEMBER.search(payload, 0, _GLIMPSE_BYTES)
    found = match[1].decode("ascii", "replace") if match else ""
    return found if usable_uuid(found) else uuid8_of(payload)


def name_of_element(element: bytes) -> str:
    """The name of the item in an element of a list, zset or hash: a record or a bare payload."""
    try:
        return name_of(parse(element).payload if element[:1] == b"\x01" else element)
    except ValueError:  # Another program put it there.
        return name_of(element)


def _name_of_document(payload: bytes) -> str:
    try:
        return Vcon.parse(payload).uuid
    except Rejected:
        found = _uuid_member(payload)
        return found if usable_uuid(found) else uuid8_of(payload)


def _uuid_member(payload: bytes) -> str:
    """The uuid in a document that is no vCon; the first uuid in a document that was cut short."""
    try:
        return str(orjson.loads(payload).get("uuid", ""))
    except orjson.JSONDecodeError:
        match = _UUID_MEMBER.search(payload)
        return match[1].decode("ascii", "replace") if match else ""
