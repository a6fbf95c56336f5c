"""Reads from a vCon the fields that storages index: its date, names, tags and words.

storage.reading reads the tags and words. A value that cannot be read counts as absent; no document
is refused for it. The document itself is stored unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from storage.reading import (
    document_text,
    is_document_text,
    is_transcript,
    message,
    spoken,
    structured,
)

__all__ = [
    "date_folder",
    "file_name",
    "is_safe_name",
    "messages",
    "notes",
    "objects",
    "strings",
    "text",
    "timestamp",
    "transcripts",
]

# All uuids that a vCon may have (docs/vcon.md). None of them can lead out of a folder.
_SAFE_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._:@+=-]{0,199}")


def is_safe_name(uuid: str) -> bool:
    """Whether a uuid can be part of an object's key, and (through `file_name`) of a file's path."""
    return _SAFE_NAME.fullmatch(uuid) is not None


def file_name(uuid: str) -> str:
    """A safe uuid as a file's name. Colons are escaped, because some file systems refuse them."""
    return uuid.replace(":", "%3A")


def timestamp(value: object) -> datetime | None:
    """A date of a vCon in UTC, or None. A date without an offset counts as UTC."""
    moment = _moment(value)
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None


def date_folder(data: dict[str, Any]) -> str:
    """`YYYY/MM/DD` of created_at as the producer wrote it, or "" without a created_at.

    The offset from UTC is not applied, as in vcon-server, so that both use the same folders.
    """
    day = _moment(data.get("created_at"))
    return f"{day.year:04d}/{day.month:02d}/{day.day:02d}" if day else ""


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        # RFC 3339 allows "t" and "z" in lower case, fromisoformat does not.
        return datetime.fromisoformat(value.upper())
    except ValueError:
        return None


def text(value: object) -> str | None:
    """The value if it is a string, else None."""
    return value if isinstance(value, str) else None


def objects(data: dict[str, Any], member: str) -> list[dict[str, Any]]:
    """The objects in a list member (parties, dialog, analysis, attachments); others are skipped."""
    items = data.get(member)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def messages(dialogs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of text dialogs (chats, mails)."""
    for dialog in dialogs:
        if words := message(dialog):
            yield words


def transcripts(parts: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of each transcript among analyses and attachments, in any known format.

    Equal words of the same dialog come once, because a transcript often exists in two formats.
    """
    seen: set[tuple[str, str]] = set()
    for part in parts:
        if is_transcript(part):
            words = spoken(structured(part))
            if words is None or not words.text:
                continue
            dialogs = part.get("dialog")
            key = (str(dialogs if isinstance(dialogs, list) else [dialogs]), words.text)
            if key not in seen:
                seen.add(key)
                yield words.text


def notes(analyses: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of analyses that are not transcripts: documents, summaries, labels and so on."""
    for analysis in analyses:
        if is_document_text(analysis):
            words = document_text(analysis)  # Only the text of its pages.
        elif is_transcript(analysis) or _is_unfinished(analysis):
            continue
        else:
            words = " ".join(strings(structured(analysis)))
        if words:
            yield words


def _is_unfinished(analysis: dict[str, Any]) -> bool:
    """Whether it is an intermediate result of a long link (conserver.vcon.partial)."""
    return analysis.get("type") in ("transcription_progress", "document_text_progress")


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value (no member names), in order, at any depth."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif isinstance(item, dict):
            waiting.extend(reversed(item.values()))
