"""Prepares a vCon for its page: parties, dialogs with their transcripts, and all other parts.

Strangers may have written the vCon. So this module leaves out invalid parts, and passes all values
to the template as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from conserver.errors import Rejected
from conserver.media.transcription.transcript import Segment, Transcript, transcripts_of
from conserver.outbound.addresses import named
from conserver.outbound.uploads import SCHEME, Store, StoreError
from conserver.vcon.document import Vcon
from conserver.vcon.indices import indices
from storage.reading import (
    DocumentPage,
    document_pages,
    duration_s,
    is_document_text,
    media_type,
    message,
    structured,
)

_TEXT_CHARS = 20_000
_RAW_CHARS = 400_000
_BODY_CHARS = 2_000
"""In the raw document, a longer text is replaced by its length."""
_LINES_MAX = 5_000
_PARTY_MEMBERS = ("name", "tel", "mailto", "sip", "org", "role", "title", "timezone")

PLAYED = frozenset(
    "audio/wav audio/x-wav audio/wave audio/vnd.wave audio/mpeg audio/mp3 audio/ogg audio/opus "
    "audio/flac audio/x-flac audio/mp4 audio/x-m4a audio/aac audio/webm video/webm video/mp4 "
    "video/ogg".split()
)
"""The media types that a browser gets under their own name. Others are only downloaded."""


@dataclass(frozen=True, slots=True)
class Party:
    """One party. details: (member, value)."""

    number: int
    name: str
    details: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the transcript, with times in seconds of the recording.

    party: the number of the speaker's colour. words: (start, end, text); empty without times.
    """

    start_s: float
    end_s: float
    speaker: str
    party: int
    text: str
    words: Sequence[tuple[float, float, str]]


@dataclass(frozen=True, slots=True)
class Dialog:
    """One dialog.

    Attributes:
        source: the place of its recording: "here" (it can be played), "gone" (its upload has been
            removed), a URL without its query, or "" for no recording.
        fetched_from: the URL, without its query, from which the server fetches the recording to
            play it; "" if the server has it.
        playable: whether browsers usually can play it.
        lines: the transcript; empty if there is none, or it has no times.
        said: the text of the transcript or the message, if there are no lines.
        speakers: (name, number of the colour), in the order of their first words.
    """

    number: int
    kind: str
    started_at: float | None
    duration_s: float | None
    parties: Sequence[int]
    mediatype: str
    filename: str
    source: str
    fetched_from: str
    playable: bool
    language: str
    lines: Sequence[Line]
    said: str
    speakers: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Part:
    """An analysis or an attachment. text: its body; a long one is cut."""

    number: int
    kind: str
    vendor: str
    about: Sequence[int]
    mediatype: str
    text: str
    cut: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A vCon. raw: the document as text, without long bodies."""

    uuid: str
    form: str
    subject: str
    created_at: str
    bytes: int
    parties: Sequence[Party]
    dialogs: Sequence[Dialog]
    analyses: Sequence[Part]
    attachments: Sequence[Part]
    raw: str


def read(raw: bytes, uploads: Store) -> Call:
    """Prepare a document. Raises Rejected if it is no vCon."""
    vcon = Vcon.parse(raw)
    data = vcon.view
    parties = [_party(number, one) for number, one in enumerate(_objects(data, "parties"))]
    said = transcripts_of(data)
    dialogs = [
        _dialog(number, one, said.get(number), parties, uploads)
        for number, one in enumerate(_objects(data, "dialog"))
    ]
    return Call(
        uuid=vcon.uuid,
        form=vcon.form,
        subject=_text(data.get("subject")),
        created_at=_text(data.get("created_at")),
        bytes=len(raw),
        parties=parties,
        dialogs=dialogs,
        analyses=[_part(n, one) for n, one in enumerate(_objects(data, "analysis"))],
        attachments=[_part(n, one) for n, one in enumerate(_objects(data, "attachments"))],
        raw=_raw(data),
    )


def dialog_of(raw: bytes, number: int) -> dict[str, Any] | None:
    """The dialog with this index; None if the document has no such dialog."""
    try:
        dialogs = _objects(Vcon.parse(raw).view, "dialog")
    except Rejected:
        return None
    return dialogs[number] if 0 <= number < len(dialogs) else None


def _objects(data: Mapping[str, Any], member: str) -> list[dict[str, Any]]:
    """The objects in a list. An invalid entry becomes an empty object, which keeps the indices."""
    found = data.get(member)
    entries = found if isinstance(found, list) else []
    return [one if isinstance(one, dict) else {} for one in entries]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _party(number: int, party: dict[str, Any]) -> Party:
    details = [
        (member, _text(party.get(member))) for member in _PARTY_MEMBERS if _text(party.get(member))
    ]
    name = details[0][1] if details else f"party {number + 1}"
    return Party(number, name, [one for one in details if one[1] != name])


def _dialog(
    number: int,
    dialog: dict[str, Any],
    found: Transcript | None,
    parties: Sequence[Party],
    uploads: Store,
) -> Dialog:
    kind = _text(dialog.get("type")) or "dialog"
    theirs = [index for index in indices(dialog.get("parties")) if 0 <= index < len(parties)]
    segments = [one for one in found.segments if one.end_s > 0] if found else []
    speakers = _speakers(segments, parties, theirs)
    mediatype = media_type(dialog) or ""
    source = _source(dialog, uploads) if not mediatype.startswith("text/") else ""
    is_elsewhere = is_fetched(source)
    length_s = duration_s(dialog) or (found.duration_s if found else 0.0)
    return Dialog(
        number=number,
        kind=kind,
        started_at=_moment(dialog.get("start")),
        duration_s=length_s or max((one.end_s for one in segments), default=0.0) or None,
        parties=theirs,
        mediatype=mediatype,
        filename=_text(dialog.get("filename")),
        source="here" if is_elsewhere else source,
        fetched_from=source if is_elsewhere else "",
        playable=mediatype in PLAYED,
        language=found.language if found else "",
        lines=[_line(one, speakers) for one in segments[:_LINES_MAX]],
        said="" if segments else (found.text if found else message(dialog) or "")[:_TEXT_CHARS],
        speakers=list(speakers.items()),
    )


def _source(dialog: dict[str, Any], uploads: Store) -> str:
    if isinstance(dialog.get("body"), str) and dialog["body"]:
        return "here"
    url = _text(dialog.get("url"))
    if url.startswith(SCHEME):
        try:
            return "here" if uploads.find(url.removeprefix(SCHEME)) else "gone"
        except StoreError:
            return "here"  # The store does not answer; the player will report it.
    try:
        return named(url) if urlsplit(url).hostname else ""
    except ValueError:
        return ""


def is_fetched(url: str) -> bool:
    """Whether the server may fetch the URL to play it. outbound/fetch.py has further rules."""
    return url.partition(":")[0].lower() in ("http", "https")


def _speakers(
    segments: Sequence[Segment], parties: Sequence[Party], theirs: Sequence[int]
) -> dict[str, int]:
    """The colour of each speaker: the number of the party with this name, else a free number."""
    named = {party.name: party.number for party in reversed(parties)}
    found: dict[str, int] = {}
    speaking = {segment.speaker for segment in segments}
    free = [number for number in theirs if parties[number].name not in speaking]
    for segment in segments:
        if segment.speaker not in found:
            number = named.get(segment.speaker)
            if number is None:
                number = free.pop(0) if free else len(found)
            found[segment.speaker] = number
    return found


def _line(segment: Segment, speakers: Mapping[str, int]) -> Line:
    words = [(word.start_s, word.end_s, word.text) for word in segment.words if word.text]
    return Line(
        segment.start_s,
        segment.end_s,
        segment.speaker,
        speakers[segment.speaker],
        segment.text,
        words,
    )


def _part(number: int, part: dict[str, Any]) -> Part:
    body = structured(part)
    if is_document_text(part):
        text = "\n\n".join(_page(page) for page in document_pages(part))
    elif isinstance(body, bytes):
        text = f"{len(body)} bytes"
    elif isinstance(body, str):
        text = body
    else:
        text = "" if body is None else _pretty(body)
    if not text and part.get("url"):
        text = _text(part.get("url")).partition("?")[0]
    return Part(
        number,
        _text(part.get("type")) or _text(part.get("purpose")) or "part",
        " ".join(filter(None, (_text(part.get("vendor")), _text(part.get("product"))))),
        indices(part.get("dialog")),
        media_type(part) or "",
        text[:_TEXT_CHARS],
        len(text) > _TEXT_CHARS,
    )


def _page(page: DocumentPage) -> str:
    """The text of a page of a document, with remarks on it."""
    sure = f"{page.confidence:.0%}" if page.source == "ocr" and page.confidence else ""
    said = ", ".join(filter(None, (page.source.replace("_", " "), sure, page.error)))
    return f"— page {page.number}{f' ({said})' if said else ''} —\n{page.text}"


def _moment(value: object) -> float | None:
    try:
        return datetime.fromisoformat(_text(value).upper()).timestamp()
    except (ValueError, OverflowError):
        return None


def _raw(data: Any) -> str:
    text = _pretty(_without_long_texts(data, 0))
    return text[:_RAW_CHARS]


def _pretty(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        return "(nested too deeply to be shown)"


def _without_long_texts(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _BODY_CHARS else f"… {len(value):,} characters …"
    if depth > 200:
        return "…"
    if isinstance(value, list):
        return [_without_long_texts(one, depth + 1) for one in value]
    if isinstance(value, dict):
        return {name: _without_long_texts(one, depth + 1) for name, one in value.items()}
    return value
