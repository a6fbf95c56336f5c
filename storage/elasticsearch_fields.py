"""Makes the document for Elasticsearch from a vCon: the indexed fields, and the vCon itself.

Every field has the type that the mapping in elasticsearch_index declares, and a bounded length, so
that no vCon can conflict with the mapping.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import orjson

from storage.contract import Document
from storage.fields import messages, notes, objects, text, timestamp, transcripts
from storage.reading import duration_s, tags_of

_PARTY_MEMBERS = ("name", "tel", "mailto", "sip", "uuid", "role", "org")
_TEXT_LIMIT_CHARS = 1_000_000
_LIST_LIMIT = 1000
# A century. A longer duration is ignored.
_DURATION_LIMIT_S = 3_155_760_000


def source(document: Document, max_body_bytes: int, max_vcon_bytes: int) -> bytes:
    """The JSON to index, on one line. Raises ValueError if the document is not a JSON object."""
    vcon = document.body
    complete = True
    if len(vcon) > max_body_bytes and document.form == "unsigned":
        vcon, complete = _without_bodies(document, max_body_bytes)
    if len(vcon) > max_vcon_bytes:
        vcon, complete = b"", False
    fields = orjson.dumps(_fields(document, complete))
    if not vcon:
        return fields
    if b"\n" in vcon or b"\r" in vcon:
        # Raw line ends can only stand between tokens: JSON does not allow them in strings.
        vcon = vcon.replace(b"\n", b" ").replace(b"\r", b" ")
    return b'%b,"vcon":%b}' % (fields[:-1], vcon)


def _without_bodies(document: Document, max_body_bytes: int) -> tuple[bytes, bool]:
    """The vCon without inline bodies over `max_body_bytes`; True if there was none to remove."""
    copy = dict(document.data)
    complete = True
    for member in ("dialog", "attachments"):
        parts = copy.get(member)
        if isinstance(parts, list):
            kept = [_without_body(part, max_body_bytes) for part in parts]
            if any(new is not old for new, old in zip(kept, parts, strict=True)):
                copy[member] = kept
                complete = False
    if complete:
        return document.body, True
    try:
        return orjson.dumps(copy), False
    except TypeError:
        # The vCon is nested more deeply than orjson can write.
        return b"", False


def _without_body(part: Any, max_body_bytes: int) -> Any:
    body = part.get("body") if isinstance(part, dict) else None
    if isinstance(body, str) and len(body) > max_body_bytes:
        return {name: value for name, value in part.items() if name != "body"}
    return part


def _fields(document: Document, complete: bool) -> dict[str, Any]:
    """The indexed fields. Fields that the vCon does not have are left out."""
    data = document.data
    dialogs = objects(data, "dialog")[:_LIST_LIMIT]
    analyses = objects(data, "analysis")[:_LIST_LIMIT]
    attachments = objects(data, "attachments")[:_LIST_LIMIT]
    starts, ends, total_s = _times(dialogs)
    fields = {
        "uuid": document.uuid,
        "form": document.form,
        "complete": complete,
        "subject": _limited(text(data.get("subject"))),
        "created_at": timestamp(data.get("created_at")),
        "updated_at": timestamp(data.get("updated_at")),
        "started_at": min(starts, default=None),
        "ended_at": max(ends, default=None),
        "duration_s": total_s,
        "parties": _parties(objects(data, "parties")[:_LIST_LIMIT]),
        "dialog_types": _named(dialogs, "type"),
        "analysis_types": _named(analyses, "type"),
        "vendors": _named(analyses, "vendor"),
        "attachments": _named(attachments, "purpose", "type"),
        "extensions": _strings(data.get("extensions")),
        "tags": tags_of(attachments)[:_LIST_LIMIT],
        "transcript": _joined(transcripts([*analyses, *attachments])),
        "messages": _joined(messages(dialogs)),
        "notes": _joined(notes(analyses)),
    }
    return {name: value for name, value in fields.items() if value not in (None, "", [])}


def _times(
    dialogs: list[dict[str, Any]],
) -> tuple[list[datetime], list[datetime], float | None]:
    """The starts and the ends of the dialogs, and their total duration in seconds."""
    starts: list[datetime] = []
    ends: list[datetime] = []
    total_s: float | None = None
    for dialog in dialogs:
        start = timestamp(dialog.get("start"))
        length_s = _duration_s(dialog)
        if length_s is not None:
            total_s = (total_s or 0.0) + length_s
        if start is not None:
            starts.append(start)
            ends.append(_later(start, length_s or 0.0))
    return starts, ends, total_s


def _duration_s(dialog: dict[str, Any]) -> float | None:
    found_s = duration_s(dialog)
    return found_s if found_s is not None and found_s < _DURATION_LIMIT_S else None


def _later(start: datetime, length_s: float) -> datetime:
    try:
        return start + timedelta(seconds=length_s)
    except OverflowError:
        return start


def _parties(parties: list[dict[str, Any]]) -> list[dict[str, str]]:
    known = [
        {name: party[name] for name in _PARTY_MEMBERS if isinstance(party.get(name), str)}
        for party in parties
    ]
    return [party for party in known if party]


def _named(parts: list[dict[str, Any]], *members: str) -> list[str]:
    """For each part the value of the first of `members` that it has; distinct values, in order."""
    found: dict[str, None] = {}
    for part in parts:
        for member in members:
            value = part.get(member)
            if isinstance(value, str):
                found[value] = None
                break
    return list(found)


def _strings(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, str)][:_LIST_LIMIT]


def _joined(pieces: Iterable[str]) -> str | None:
    return _limited("\n".join(pieces))


def _limited(value: str | None) -> str | None:
    return value[:_TEXT_LIMIT_CHARS] if value else None
