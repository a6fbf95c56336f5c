"""A transcript as subtitles, text, or the JSON that OpenAI's clients expect: pure functions.

All parts use these functions: `conserver transcribe`, results of jobs, OpenAI's routes, and
callbacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import orjson

from conserver.media.transcription.readable import ends_paragraph
from conserver.media.transcription.transcript import Segment, Transcript, Word

# A subtitle that stays readable: two lines of text, a few seconds.
_CUE_CHARS_MAX = 84
_CUE_S_MAX = 7.0
_CUE_S_MIN = 0.2

MEDIA_TYPES = {
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "verbose_json": "application/json",
    "diarized_json": "application/json",
}
"""Format, by the name that OpenAI's clients use -> media type."""

ALL_PARTS = frozenset({"segment", "word"})


class NoTimesError(ValueError):
    """The transcript has no times, which subtitles and turns need."""


def render(found: Transcript, form: str, parts: Collection[str] = ALL_PARTS) -> str:
    """A transcript in a format of MEDIA_TYPES.

    Args:
        parts: which of ALL_PARTS `verbose_json` contains.

    Raises:
        NoTimesError
    """
    if form == "verbose_json":
        return _dump(verbose(found, parts))
    return _FORMATS[form](found)


def plain(found: Transcript) -> dict[str, Any]:
    """OpenAI's `json`."""
    return {"text": found.text, "usage": usage(found)}


def usage(found: Transcript) -> dict[str, Any]:
    """The recording's length in whole seconds, in OpenAI's form."""
    return {"type": "duration", "seconds": math.ceil(found.duration_s)}


def verbose(found: Transcript, parts: Collection[str] = ALL_PARTS) -> dict[str, Any]:
    """OpenAI's `verbose_json`. Segments and words have a `speaker` if it is known."""
    body: dict[str, Any] = {
        "task": "translate" if found.translated else "transcribe",
        "language": found.language,
        "duration": found.duration_s,
        "text": found.text,
    }
    if "segment" in parts:
        body["segments"] = [_segment(*one) for one in enumerate(found.segments)]
    if "word" in parts and (found.words or "segment" not in parts):
        body["words"] = [
            {"word": one.text, "start": one.start_s, "end": one.end_s, **_speaker(one)}
            for one in found.words
        ]
    return {**body, "usage": usage(found)}


def diarized(found: Transcript) -> dict[str, Any]:
    """OpenAI's `diarized_json`: segments with speakers. A speaker without a name is `A`.

    Raises:
        NoTimesError
    """
    _check_times(found, "turns")
    return {
        "task": "transcribe",
        "duration": found.duration_s,
        "text": found.text,
        "segments": [turn(*one) for one in enumerate(found.segments)],
        "usage": usage(found),
    }


def turn(number: int, one: Segment) -> dict[str, Any]:
    """A segment of `diarized_json`; also the data of an event in a stream."""
    return {
        "type": "transcript.text.segment",
        "id": f"seg_{number:03}",
        "start": one.start_s,
        "end": one.end_s,
        "text": one.text,
        "speaker": one.speaker or "A",
    }


def text(found: Transcript) -> str:
    """One paragraph for each turn. It begins with the speaker's name if there are several."""
    if not found.segments:
        return f"{found.text}\n" if found.text else ""
    several = len(found.speakers) > 1
    lines: list[list[str]] = []
    last: Segment | None = None
    for one in found.segments:
        chars = sum(map(len, lines[-1])) + len(lines[-1]) if lines else 0
        if (
            last is None
            or last.speaker != one.speaker
            or ends_paragraph(last.text, chars, one.start_s - last.end_s)
        ):
            lines.append([f"{one.speaker}:"] if several and one.speaker else [])
        lines[-1].append(one.text)
        last = one
    return "".join(" ".join(parts) + "\n" for parts in lines)


def srt(found: Transcript) -> str:
    """SubRip. The speaker's name precedes the text if there are several speakers."""
    cues = [
        f"{number}\n{_clock(start_s, ',')} --> {_clock(end_s, ',')}\n"
        f"{f'{speaker}: ' if speaker else ''}{said}\n"
        for number, (speaker, start_s, end_s, said) in enumerate(_cues(found), 1)
    ]
    return "\n".join(cues)


def vtt(found: Transcript) -> str:
    """WebVTT. A voice tag names the speaker if there are several speakers."""
    cues = [
        f"{_clock(start_s, '.')} --> {_clock(end_s, '.')}\n"
        f"{f'<v {_escaped(speaker)}>' if speaker else ''}{_escaped(said)}\n"
        for speaker, start_s, end_s, said in _cues(found)
    ]
    return "\n".join(["WEBVTT\n", *cues])


_FORMATS: Mapping[str, Callable[[Transcript], str]] = {
    "text": text,
    "srt": srt,
    "vtt": vtt,
    "json": lambda found: _dump(plain(found)),
    "diarized_json": lambda found: _dump(diarized(found)),
}


def _segment(number: int, one: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": 0,
        "start": one.start_s,
        "end": one.end_s,
        "text": one.text,
        "tokens": [],
        "temperature": one.temperature,
        "avg_logprob": one.avg_logprob,
        "compression_ratio": one.compression_ratio,
        "no_speech_prob": one.no_speech_prob,
        **_speaker(one),
    }


def _speaker(one: Segment | Word) -> dict[str, Any]:
    return {"speaker": one.speaker} if one.speaker else {}


def _cues(found: Transcript) -> Iterator[tuple[str, float, float, str]]:
    """(speaker to name, start, end, text) of each subtitle, short enough for a screen.

    A longer segment is cut between words, if its words have times.
    """
    _check_times(found, "subtitles")
    several = len(found.speakers) > 1
    for one in found.segments:
        speaker = one.speaker if several else ""
        for start_s, end_s, said in _pieces(one):
            yield speaker, start_s, max(end_s, start_s + _CUE_S_MIN), said


def _check_times(found: Transcript, what: str) -> None:
    if found.text and not found.segments:
        raise NoTimesError(f"its transcript has no times, which {what} need")


def _pieces(one: Segment) -> Iterator[tuple[float, float, str]]:
    places = _places(one)
    if not places:
        yield one.start_s, one.end_s, one.text
        return
    first = 0
    for index in range(1, len(places) + 1):
        if index < len(places):
            length = places[index][1] - places[first][0]
            long_s = one.words[index].end_s - one.words[first].start_s
            if length <= _CUE_CHARS_MAX and long_s <= _CUE_S_MAX:
                continue
        upto = places[index][0] if index < len(places) else len(one.text)
        begin = places[first][0] if first else 0
        yield one.words[first].start_s, one.words[index - 1].end_s, one.text[begin:upto].strip()
        first = index


def _places(one: Segment) -> list[tuple[int, int]]:
    """The position of each word in the text; an empty list unless all words are found, in order.

    Subtitles are cut out of the text by position, because joining words with spaces would be wrong
    for scripts without spaces.
    """
    places: list[tuple[int, int]] = []
    at = 0
    for word in one.words:
        begin = one.text.find(word.text, at)
        if begin < 0:
            return []
        at = begin + len(word.text)
        places.append((begin, at))
    return places


def _escaped(said: str) -> str:
    return said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def _clock(seconds: float, point: str) -> str:
    minutes, rest_ms = divmod(round(max(seconds, 0) * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest_ms // 1000:02}{point}{rest_ms % 1000:03}"


def _dump(value: object) -> str:
    return orjson.dumps(value).decode()
