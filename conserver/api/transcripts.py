"""The transcripts in a vCon as text, as subtitles, and as the JSON of OpenAI's clients.

Read are the analyses that the link transcribe writes (`wtf_transcription` and `transcript`), and of
others what says its words at all: then there are no times, and no subtitles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from conserver.api.problems import ProblemError
from storage.reading import is_transcript, spoken, structured

MEDIA_TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """Something that was said, in seconds from the beginning of its recording."""

    start_s: float
    end_s: float
    text: str
    speaker: str = ""


@dataclass(slots=True)
class Transcript:
    """What was said in the recordings of a vCon, one after the other."""

    text: str = ""
    language: str = ""
    duration_s: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    words: list[dict[str, Any]] = field(default_factory=list)


def rendered(document: Mapping[str, Any], wanted: str) -> tuple[bytes, str]:
    """The transcript of a vCon in a format of MEDIA_TYPES, and its media type.

    Raises:
        ProblemError: 404: there is none, or one without the times that subtitles need.
    """
    found = transcript_of(document)
    if found is None:
        raise ProblemError(404, "its vCon holds no transcript: try format=vcon", "no-transcript")
    if wanted in ("srt", "vtt") and found.text and not found.segments:
        raise ProblemError(404, "its transcript has no times: try format=text", "no-times")
    formats = {"json": plain, "verbose_json": verbose, "text": text, "srt": srt, "vtt": vtt}
    return formats[wanted](found).encode(), MEDIA_TYPES[wanted]


def transcript_of(document: Mapping[str, Any]) -> Transcript | None:
    """All transcripts of a vCon as one; None if it has none. One of each dialog is read."""
    best: dict[int, Transcript] = {}
    analyses = document.get("analysis")
    for analysis in analyses if isinstance(analyses, list) else ():
        if not isinstance(analysis, dict) or not is_transcript(analysis):
            continue
        read = _read(structured(analysis))
        dialog = analysis.get("dialog")
        place = dialog if isinstance(dialog, int) else 0
        if read is not None and (
            place not in best or len(read.segments) > len(best[place].segments)
        ):
            best[place] = read
    if not best:
        return None
    return _joined([best[place] for place in sorted(best)])


def plain(found: Transcript) -> str:
    """OpenAI's `json`."""
    return orjson.dumps({"text": found.text}).decode()


def verbose(found: Transcript) -> str:
    """OpenAI's `verbose_json`."""
    segments = [
        {
            "id": number,
            "seek": 0,
            "start": one.start_s,
            "end": one.end_s,
            "text": one.text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": 0.0,
            "compression_ratio": 0.0,
            "no_speech_prob": 0.0,
            **({"speaker": one.speaker} if one.speaker else {}),
        }
        for number, one in enumerate(found.segments)
    ]
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": found.language,
        "duration": found.duration_s,
        "text": found.text,
        "segments": segments,
    }
    if found.words:
        body["words"] = found.words
    return orjson.dumps(body).decode()


def text(found: Transcript) -> str:
    """One line for each turn of a speaker, led by who speaks where several do."""
    if len(_speakers(found)) < 2:
        return found.text + "\n"
    lines: list[list[str]] = []
    before = None
    for one in found.segments:
        if one.speaker != before:
            lines.append([f"{one.speaker}:"])
            before = one.speaker
        lines[-1].append(one.text)
    return "".join(" ".join(parts) + "\n" for parts in lines)


def srt(found: Transcript) -> str:
    """SubRip."""
    cues = [
        f"{number}\n{_clock(one.start_s, ',')} --> {_clock(one.end_s, ',')}\n"
        f"{f'{one.speaker}: ' if named else ''}{one.text}\n"
        for number, one, named in _cues(found)
    ]
    return "\n".join(cues)


def vtt(found: Transcript) -> str:
    """WebVTT."""
    cues = [
        f"{_clock(one.start_s, '.')} --> {_clock(one.end_s, '.')}\n"
        f"{f'<v {_escaped(one.speaker)}>' if named else ''}{_escaped(one.text)}\n"
        for _, one, named in _cues(found)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _cues(found: Transcript) -> Iterator[tuple[int, Segment, bool]]:
    """Each segment with its number, and whether its speaker is to be named."""
    named = len(_speakers(found)) > 1
    for number, one in enumerate(found.segments, 1):
        yield number, one, named and bool(one.speaker)


def _speakers(found: Transcript) -> set[str]:
    return {one.speaker for one in found.segments if one.speaker}


def _escaped(said: str) -> str:
    return said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _clock(seconds: float, point: str) -> str:
    minutes, rest_ms = divmod(round(max(seconds, 0) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest_ms // 1000:02}{point}{rest_ms % 1000:03}"


def _joined(parts: Sequence[Transcript]) -> Transcript:
    if len(parts) == 1:
        return parts[0]
    whole = Transcript(
        text="\n".join(part.text for part in parts if part.text), language=parts[0].language
    )
    for part in parts:
        shift_s = whole.duration_s
        whole.segments += [
            Segment(one.start_s + shift_s, one.end_s + shift_s, one.text, one.speaker)
            for one in part.segments
        ]
        whole.words += [
            {**word, "start": word["start"] + shift_s, "end": word["end"] + shift_s}
            for word in part.words
        ]
        last_s = max((one.end_s for one in part.segments), default=0.0)
        whole.duration_s += max(part.duration_s, last_s)
    return whole


def _read(body: Any) -> Transcript | None:
    """One transcript; None where its form is not known."""
    if isinstance(body, dict) and isinstance(body.get("segments"), list):
        return _wtf(body)
    words = spoken(body)
    if words is None:
        return None
    if not isinstance(body, dict):
        return Transcript(words.text)
    return Transcript(
        text=words.text,
        language=_text(body.get("detected_language")),
        duration_s=_number(body.get("duration")),
        segments=list(_sentences(body)),
        words=_words(body.get("words"), "word"),
    )


def _wtf(body: dict[str, Any]) -> Transcript:
    head = body.get("transcript")
    head = head if isinstance(head, dict) else {}
    names = body.get("speakers")
    names = names if isinstance(names, dict) else {}
    segments = [
        Segment(
            _number(one.get("start")),
            _number(one.get("end")),
            _text(one.get("text")),
            _label(one.get("speaker"), names),
        )
        for one in body["segments"]
        if isinstance(one, dict)
    ]
    joined = " ".join(one.text for one in segments)
    return Transcript(
        text=_text(head.get("text")) or joined,
        language=_text(head.get("language")),
        duration_s=_number(head.get("duration")),
        segments=segments,
        words=_words(body.get("words"), "text"),
    )


def _sentences(body: dict[str, Any]) -> Iterator[Segment]:
    outer = body.get("paragraphs")
    inner = outer.get("paragraphs") if isinstance(outer, dict) else outer
    for paragraph in inner if isinstance(inner, list) else ():
        if not isinstance(paragraph, dict):
            continue
        speaker = paragraph.get("label", paragraph.get("speaker", ""))
        sentences = paragraph.get("sentences")
        for one in sentences if isinstance(sentences, list) else ():
            if isinstance(one, dict):
                yield Segment(
                    _number(one.get("start")),
                    _number(one.get("end")),
                    _text(one.get("text")),
                    str(speaker),
                )


def _words(entries: Any, member: str) -> list[dict[str, Any]]:
    return [
        {
            "word": _text(one.get(member)),
            "start": _number(one.get("start")),
            "end": _number(one.get("end")),
        }
        for one in (entries if isinstance(entries, list) else ())
        if isinstance(one, dict)
    ]


def _label(speaker: Any, names: Mapping[str, Any]) -> str:
    if speaker is None:
        return ""
    known = names.get(str(speaker))
    label = known.get("label") if isinstance(known, dict) else None
    return _text(label) or str(speaker)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return round(float(value), 3) if is_number else 0.0
