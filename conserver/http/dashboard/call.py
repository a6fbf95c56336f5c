"""A vCon as its page shows it: parties, dialogs with what was said in them, and all other parts.

Everything in a vCon was written by somebody else: whatever is odd is left out here, and no value is
anything but text in the end.
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
"""A longer text in the raw document is replaced by its length."""
_LINES_MAX = 5_000
_PARTY_MEMBERS = ("name", "tel", "mailto", "sip", "org", "role", "title", "timezone")

PLAYED = frozenset(
    "audio/wav audio/x-wav audio/wave audio/vnd.wave audio/mpeg audio/mp3 audio/ogg audio/opus "
    "audio/flac audio/x-flac audio/mp4 audio/x-m4a audio/aac audio/webm video/webm video/mp4 "
    "video/ogg".split()
)
"""The media types that are sent to a browser as what they are. Others are only downloaded."""


@dataclass(frozen=True, slots=True)
class Party:
    """One party. details: (member, value)."""

    number: int
    name: str
    details: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody said, in seconds of the recording. party: the number of its colour.

    words: (start, end, text), none where they have no times.
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
        source: where its recording is: "here" (it can be played), "gone" (its upload has been
            removed), an address without its query, or "" for none.
        fetched_from: the address, without its query, from which it is fetched when it is played;
            "" where we have it.
        playable: whether browsers usually can play it.
        lines: the transcript; none where there is none, or one without times.
        said: the transcript's or the message's text, where there are no lines.
        speakers: (name, number of its colour), in the order in which they begin.
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
    """An analysis or an attachment. text: its body, perhaps cut."""

    number: int
    kind: str
    vendor: str
    about: Sequence[int]
    mediatype: str
    text: str
    cut: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A vCon. raw: the document as text, with long bodies left out."""

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
    """The view of a document. Raises Rejected for what is no vCon."""
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
    """One dialog of a document; None if it has none of that number."""
    try:
        dialogs = _objects(Vcon.parse(raw).view, "dialog")
    except Rejected:
        return None
    return dialogs[number] if 0 <= number < len(dialogs) else None


def _objects(data: Mapping[str, Any], member: str) -> list[dict[str, Any]]:
    """The entries of a list, so that their numbers stay right; an odd one as an empty object."""
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
            return "here"  # The player says that it cannot be had now.
    try:
        return named(url) if urlsplit(url).hostname else ""
    except ValueError:
        return ""


def is_fetched(url: str) -> bool:
    """Whether what is at an address can be asked for at all; outbound/fetch.py has the rules."""
    return url.partition(":")[0].lower() in ("http", "https")


def _speakers(
    segments: Sequence[Segment], parties: Sequence[Party], theirs: Sequence[int]
) -> dict[str, int]:
    """The colour of each speaker: the number of the party of that name, else the next free one."""
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
    """A page of a document, with what is to be known of it."""
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
