"""The fields that storages derive from a vCon: its date, names, tags and words.

Tags and words are read by storage.reading, as everywhere. Nothing here refuses a document: a value
that cannot be read is absent. The document itself is stored unchanged.
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

# All that a vCon's uuid may hold (docs/vcon.md), and nothing that climbs out of a folder.
_SAFE_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._:@+=-]{0,199}")


def is_safe_name(uuid: str) -> bool:
    """Whether a uuid can be part of a path: of an object key as it stands, of a file as `file_name`
    makes it.
    """
    return _SAFE_NAME.fullmatch(uuid) is not None


def file_name(uuid: str) -> str:
    """A safe uuid as a file's name: without colons, which not every file system takes."""
    return uuid.replace(":", "%3A")


def timestamp(value: object) -> datetime | None:
    """A date of a vCon in UTC (one without an offset is taken for UTC), or None."""
    moment = _moment(value)
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None


def date_folder(data: dict[str, Any]) -> str:
    """`YYYY/MM/DD` of created_at as its producer wrote it, or an empty string where it has none.

    The offset is not applied: a folder is a matter of filing, and vcon-server files the same way.
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
    """The objects of a list member (parties, dialog, analysis, attachments); odd ones left out."""
    items = data.get(member)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def messages(dialogs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of text dialogs (chats, mails)."""
    for dialog in dialogs:
        if words := message(dialog):
            yield words


def transcripts(parts: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of each transcript among analyses and attachments, whoever made it.

    Equal words of the same dialog come once: a transcript often exists in two formats.
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
    """The words of the other analyses: documents, summaries, labels and the like."""
    for analysis in analyses:
        if is_document_text(analysis):
            words = document_text(analysis)  # Without the names of sources and languages.
        elif is_transcript(analysis) or _is_unfinished(analysis):
            continue
        else:
            words = " ".join(strings(structured(analysis)))
        if words:
            yield words


def _is_unfinished(analysis: dict[str, Any]) -> bool:
    """Whether it is what a long piece of work keeps on the way (conserver.vcon.partial)."""
    return analysis.get("type") in ("transcription_progress", "document_text_progress")


def strings(value: Any) -> Iterator[str]:
    """Every string among the values of a JSON value, in order, however deep it is nested."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif isinstance(item, dict):
            waiting.extend(reversed(item.values()))
