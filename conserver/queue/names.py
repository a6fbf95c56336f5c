"""The one name of an item, in logs, `status`, dead letters, jobs and for every command.

It is its vCon's uuid as soon as any byte of the payload tells it, even in a document that is
refused or was cut short. A document without a uuid gets the id that is derived from its bytes,
because a document may hold personal data and is never quoted. What is neither a uuid nor a document
is named by how it begins.
"""

from __future__ import annotations

import re

import orjson

from conserver.errors import Rejected
from conserver.queue.record import parse, split_job
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid, uuid8_of

NAME_CHARS = 64
"""So much of a payload that is no uuid."""
_UUID_MEMBER = re.compile(rb'"uuid"\s*:\s*"([\w.:@+=-]{1,128})"')


def name_of(payload: bytes) -> str:
    """The name of the item with this payload: a uuid, with or without a job, or a document.

    Two payloads that are no uuid and begin alike have one name.
    """
    if payload[:1] == b"{":
        return _name_of_document(payload)
    text = split_job(payload)[0].decode("utf-8", "replace").strip()
    if usable_uuid(text):
        return text
    # What cannot be printed could not be typed either.
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return shown if len(shown) <= NAME_CHARS else shown[: NAME_CHARS - 3] + "..."


def name_of_element(element: bytes) -> str:
    """The same for an element of a key: a record or a bare payload."""
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
    """The uuid in a document that is no vCon; of one that was cut short, the first one in it."""
    try:
        return str(orjson.loads(payload).get("uuid", ""))
    except orjson.JSONDecodeError:
        match = _UUID_MEMBER.search(payload)
        return match[1].decode("ascii", "replace") if match else ""
