"""What storages read of a vCon to file it: its date, its names, its tags, its words.

The standard leaves much open and producers leave more, so that nothing here ever refuses: what
cannot be read is absent. The document itself is kept as it is, whatever is read from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

# Where the services put what was said, the fullest first.
_SPOKEN_MEMBERS = ("text", "transcript", "paragraphs", "segments", "utterances", "message")
# Deeper than any service nests its words; a hostile body must not exhaust the stack.
_DEPTH_LIMIT = 8
_SAFE_NAME = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,199}")


def is_safe_name(uuid: str) -> bool:
    """Whether a uuid can be (part of) a file name or an object key as it stands."""
    return _SAFE_NAME.fullmatch(uuid) is not None


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


def body_value(part: dict[str, Any]) -> Any:
    """The body of a part as a value: JSON is parsed where it is written as a string."""
    body = part.get("body")
    if part.get("encoding") != "json" or not isinstance(body, str):
        return body
    try:
        return orjson.loads(body)
    except ValueError:
        # "encoding": "json" over plain text is frequent in the wild.
        return body


def tags(attachments: Iterable[dict[str, Any]]) -> list[str]:
    """The tags as `name:value`, from attachments of the purpose (or, of old, the type) "tags"."""
    found: list[str] = []
    for attachment in attachments:
        if "tags" in (attachment.get("purpose"), attachment.get("type")):
            body = body_value(attachment)
            if isinstance(body, list):
                found.extend(tag for tag in body if isinstance(tag, str))
            elif isinstance(body, dict):
                found.extend(f"{name}:{value}" for name, value in body.items())
    return found


def messages(dialogs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of text dialogs (chats, mails)."""
    for dialog in dialogs:
        body = dialog.get("body")
        plain = dialog.get("type") == "text" and dialog.get("encoding") in (None, "none")
        if plain and isinstance(body, str):
            yield body


def transcripts(analyses: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of each transcript: plain text, WTF, or the shapes other services answer with.

    The same words of the same dialog come once: one transcript is often there in two formats.
    """
    told: set[tuple[str, str]] = set()
    for analysis in analyses:
        if is_transcript(analysis):
            words = spoken(body_value(analysis))
            key = (str(analysis.get("dialog")), words)
            if words and key not in told:
                told.add(key)
                yield words


def notes(analyses: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The words of the other analyses: summaries, labels and the like."""
    for analysis in analyses:
        if not is_transcript(analysis):
            words = " ".join(strings(body_value(analysis)))
            if words:
                yield words


def is_transcript(analysis: dict[str, Any]) -> bool:
    """Whether an analysis holds the words that were spoken."""
    kind = analysis.get("type")
    return isinstance(kind, str) and kind.startswith(("transcript", "wtf"))


def spoken(body: Any, depth: int = 0) -> str:
    """The text of a transcript body, whoever made it, without what surrounds it."""
    if isinstance(body, str):
        return body
    if depth < _DEPTH_LIMIT:
        if isinstance(body, list):
            return " ".join(filter(None, (spoken(item, depth + 1) for item in body)))
        if isinstance(body, dict):
            for member in _SPOKEN_MEMBERS:
                words = spoken(body.get(member), depth + 1)
                if words:
                    return words
    return ""


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
