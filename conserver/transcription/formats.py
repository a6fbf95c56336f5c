"""A transcription as subtitles, text, or the JSON that OpenAI's clients expect: pure functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from conserver.transcription.conversation import (
    Transcription,
    Turn,
    conversation,
    paragraphs,
    text_of,
)

# A subtitle that stays readable: two lines of text, a few seconds.
_CUE_CHARS_MAX = 84
_CUE_S_MAX = 7.0
_CUE_S_MIN = 0.2


def srt(transcription: Transcription) -> str:
    """SubRip. A speaker's name stands before the text where several speak."""
    turns = conversation(transcription)
    several = _several(turns)
    cues = []
    for number, (turn, start_s, end_s, text) in enumerate(_cues(turns), 1):
        named = f"{_name(turn)}: {text}" if several else text
        cues.append(f"{number}\n{_clock(start_s, ',')} --> {_clock(end_s, ',')}\n{named}\n")
    return "\n".join(cues)


def vtt(transcription: Transcription) -> str:
    """WebVTT. The speaker is a voice tag where several speak."""
    turns = conversation(transcription)
    several = _several(turns)
    cues = ["WEBVTT\n"]
    for turn, start_s, end_s, text in _cues(turns):
        said = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        voice = _name(turn).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        named = f"<v {voice}>{said}" if several else said
        cues.append(f"{_clock(start_s, '.')} --> {_clock(end_s, '.')}\n{named}\n")
    return "\n".join(cues)


def text(transcription: Transcription) -> str:
    """What was said: one paragraph per turn, led by the speaker where several speak."""
    turns = conversation(transcription)
    several = _several(turns)
    lines = [
        f"{_name(group[0])}: {text_of(group)}" if several else text_of(group)
        for group in paragraphs(turns)
    ]
    return "".join(f"{line}\n" for line in lines)


def plain_json(transcription: Transcription) -> str:
    """OpenAI's `json`."""
    return _dump({"text": text_of(conversation(transcription))})


def verbose_json(transcription: Transcription) -> str:
    """OpenAI's `verbose_json`; segments and words carry their speaker where it is known."""
    turns = conversation(transcription)
    segments = [_segment(number, turn) for number, turn in enumerate(turns)]
    words = [
        {
            "word": word.text.strip(),
            "start": round(word.start_s, 3),
            "end": round(word.end_s, 3),
            **_speaker(turn),
        }
        for turn in turns
        for word in turn.segment.words
    ]
    body: dict[str, Any] = {
        "task": "translate" if transcription.options.get("translate") else "transcribe",
        "language": transcription.language,
        "duration": round(transcription.recording.duration_s, 3),
        "text": text_of(turns),
        "segments": segments,
    }
    if words:
        body["words"] = words
    return _dump(body)


FORMATS: Mapping[str, Callable[[Transcription], str]] = {
    "text": text,
    "srt": srt,
    "vtt": vtt,
    "json": plain_json,
    "verbose_json": verbose_json,
}
"""By the names that OpenAI's clients use."""

MEDIA_TYPES = {
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "verbose_json": "application/json",
}


def _segment(number: int, turn: Turn) -> dict[str, Any]:
    segment = turn.segment
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": segment.temperature,
        "avg_logprob": round(segment.avg_logprob, 4),
        "compression_ratio": round(segment.compression_ratio, 3),
        "no_speech_prob": round(segment.no_speech_prob, 4),
        **_speaker(turn),
    }


def _speaker(turn: Turn) -> dict[str, Any]:
    return {"speaker": turn.speaker.label} if turn.speaker else {}


def _name(turn: Turn) -> str:
    return turn.speaker.label if turn.speaker else f"Channel {turn.channel}"


def _several(turns: Sequence[Turn]) -> bool:
    return len({turn.channel for turn in turns}) > 1


def _cues(turns: Sequence[Turn]) -> Iterator[tuple[Turn, float, float, str]]:
    """Turns in pieces that fit a screen, cut between words where the words have times."""
    for turn in turns:
        segment = turn.segment
        if not segment.words:
            yield (
                turn,
                segment.start_s,
                max(segment.end_s, segment.start_s + _CUE_S_MIN),
                segment.text,
            )
            continue
        first = 0
        words = segment.words
        for index in range(1, len(words) + 1):
            piece = "".join(word.text for word in words[first : index + 1]).strip()
            ends = index == len(words)
            if not ends and len(piece) <= _CUE_CHARS_MAX:
                ends = words[index].end_s - words[first].start_s > _CUE_S_MAX
            elif not ends:
                ends = True
            if ends:
                said = "".join(word.text for word in words[first:index]).strip()
                start_s = words[first].start_s
                yield turn, start_s, max(words[index - 1].end_s, start_s + _CUE_S_MIN), said
                first = index


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
