"""Helpers of all storages that can search: parse a question, mark found words, make cursors."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import orjson

from storage.contract import Hit
from storage.fields import messages, notes, objects, strings, text, transcripts
from storage.reading import tags_of

OPEN, CLOSE = "\ue000", "\ue001"
"""Stand around each found word in a snippet that an index made. They are private-use characters of
Unicode, because Elasticsearch would cut off white space.
"""

NO_CURSOR = "the cursor is none of this storage's"
TERMS_MAX = 32
"""The most terms of one question that are searched for; later ones are ignored."""

_PARTY_MEMBERS = ("name", "tel", "mailto", "sip", "role", "org")
_TERM = re.compile(r'"([^"]*)"?|(\S+)')
_MARK = re.compile(f"[{OPEN}{CLOSE}]")


def words_of(data: dict[str, Any]) -> tuple[str, str, str, str, str, str]:
    """The searchable text of a vCon: subject, parties, transcripts, messages, tags, analyses."""
    analyses, attachments = objects(data, "analysis"), objects(data, "attachments")
    parties = [
        {name: party.get(name) for name in _PARTY_MEMBERS} for party in objects(data, "parties")
    ]
    return (
        text(data.get("subject")) or "",
        " ".join(strings(parties)),
        "\n".join(transcripts([*analyses, *attachments])),
        "\n".join(messages(objects(data, "dialog"))),
        " ".join(tags_of(attachments)),
        "\n".join(notes(analyses)),
    )


def terms(question: str) -> list[str]:
    """The words and "quoted phrases" of a question that contain a letter or a digit."""
    found = (phrase or word for phrase, word in _TERM.findall(question))
    return [term for term in found if any(map(str.isalnum, term))][:TERMS_MAX]


def marked(uuid: str, created_at: str, subject: str, snippet: str) -> Hit:
    """Makes a Hit from a snippet that has OPEN and CLOSE around each found word."""
    pieces: list[str] = []
    marks: list[tuple[int, int]] = []
    length, begun = 0, None
    at = 0
    for match in [*_MARK.finditer(snippet), None]:
        piece = snippet[at : match.start() if match else None]
        pieces.append(piece)
        length += len(piece)
        if match is None:
            break
        at = match.end()
        if match[0] == OPEN:
            begun = length
        elif begun is not None:
            marks.append((begun, length))
            begun = None
    return Hit(uuid, created_at, subject, "".join(pieces), tuple(marks))


def to_cursor(values: Sequence[Any]) -> str:
    """A cursor: the values by which a storage orders its hits, of the last hit, as opaque text."""
    return base64.urlsafe_b64encode(orjson.dumps(list(values))).decode().rstrip("=")


def from_cursor(cursor: str, kinds: Sequence[type | tuple[type, ...]]) -> list[Any]:
    """The values of a cursor.

    Raises:
        ValueError: the cursor was not made by this storage.
    """
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        values = None
    good = isinstance(values, list) and len(values) == len(kinds)
    if not good or not all(map(isinstance, values, kinds)):
        raise ValueError(NO_CURSOR)
    return list(values)
