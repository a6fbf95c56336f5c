"""Turns vCons into rows for storage.postgres: their columns in PostgreSQL's binary format."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from storage import postgres_search
from storage.contract import Document, Rejected
from storage.fields import text, timestamp

# The OIDs of the arrays' element types, which are the same in every PostgreSQL.
_UUID, _TEXT, _TIMESTAMP, _JSONB, _BIGINT = 2950, 25, 1114, 3802, 20
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# The first byte of a jsonb value in binary format is the version of the format.
_JSONB_VERSION = b"\x01"
_UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# The namespace of derived ids. Never change it: stored rows have ids made from it.
_NAMESPACE = uuid5(NAMESPACE_URL, "conserver:storage.postgres")
# Matches an escaped NUL, the only character that jsonb cannot hold. A backslash that is itself
# escaped before u0000 is plain text, and allowed.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(slots=True)
class Row:
    """A document's columns in binary form, and its place in the batch."""

    index: int
    id: bytes
    vcon: bytes
    created_at: bytes | None
    subject: bytes | None
    body: bytes
    revision: bytes
    words: bytes | None


def row_id(uuid: str) -> bytes:
    """The id of a vCon's row: its uuid, or a UUIDv5 of that text if it is not a UUID."""
    if _UUID_TEXT.fullmatch(uuid):
        return bytes.fromhex(uuid.replace("-", ""))
    return uuid5(_NAMESPACE, uuid).bytes


def row_of(index: int, document: Document, searches: bool) -> Row | Rejected:
    """The columns of a document, or why PostgreSQL cannot hold it."""
    # Most documents escape nothing, so the quick search for one byte comes first.
    body = document.body
    if b"\\" in body and b"\\u0000" in body and _NUL.search(body):
        return Rejected("the document holds the character NUL, which jsonb cannot hold")
    try:
        data = document.data
    except ValueError as error:
        return Rejected(f"not a JSON object: {error}")
    subject = text(data.get("subject"))
    return Row(
        index,
        row_id(document.uuid),
        (text(data.get("vcon")) or "").encode(),
        _microseconds(timestamp(data.get("created_at"))),
        None if subject is None else subject.encode(),
        body,
        struct.pack(">q", document.revision),
        postgres_search.words(document) if searches else None,
    )


def _microseconds(moment: datetime | None) -> bytes | None:
    if moment is None:
        return None
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return struct.pack(">q", seconds * 1_000_000 + since.microseconds)


def parameters(rows: list[Row], searches: bool) -> list[bytes]:
    """The statement's parameters: one array for each column, with the values of all rows."""
    columns = [
        _array(_UUID, [row.id for row in rows]),
        _array(_TEXT, [row.vcon for row in rows]),
        _array(_TIMESTAMP, [row.created_at for row in rows]),
        _array(_TEXT, [row.subject for row in rows]),
        _array(_JSONB, [row.body for row in rows], prefix=_JSONB_VERSION),
        _array(_BIGINT, [row.revision for row in rows]),
    ]
    return [*columns, _array(_TEXT, [row.words for row in rows])] if searches else columns


def _array(kind: int, items: Sequence[bytes | None], prefix: bytes = b"") -> bytes:
    """An array of one dimension in binary form: a header, then each item behind its length."""
    parts = [struct.pack(">iiIii", 1, None in items, kind, len(items), 1)]
    for item in items:
        if item is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append((len(prefix) + len(item)).to_bytes(4, "big") + prefix)
            parts.append(item)
    return b"".join(parts)
