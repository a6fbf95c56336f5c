"""Reads the answers of servers with OpenAI's transcription routes, and builds segments.

All servers send `text`. Segments, words, scores and languages may be missing. Words may be at the
top or within segments, with or without white space. Everything but `text` is optional here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conserver.media.speech.assembly import segments_by_channel, times_of
from conserver.media.speech.packing import Plan
from conserver.media.speech.windows import Answer, WindowWord
from conserver.media.transcription.engine import Segment
from conserver.media.transcription.languages import code_of
from conserver.outbound.faults import FailedAttemptError

_SHOWN_CHARS = 200
# As in conserver.media.speech.whisper: a higher probability means that nobody spoke.
_NO_SPEECH_PROB_MAX = 0.6
_AVG_LOGPROB_MIN = -1.0


class _Part(BaseModel):
    """A segment of an answer, with the members that are used here. Times are in seconds."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Word(_Part):
    """A word. whisperX gives no times to a word that it cannot align, such as a number."""

    word: str
    start: float | None = Field(default=None, ge=0)
    end: float | None = Field(default=None, ge=0)
    probability: float | None = None


class _Segment(_Part):
    text: str = ""
    start: float = Field(ge=0)
    end: float = Field(ge=0)
    words: list[_Word] | None = None
    temperature: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None

    @property
    def silent(self) -> bool:
        """Whether the model probably invented the text, because nobody spoke."""
        if self.no_speech_prob is None or self.avg_logprob is None:
            return False
        return self.no_speech_prob > _NO_SPEECH_PROB_MAX and self.avg_logprob < _AVG_LOGPROB_MIN


class _Answer(_Part):
    text: str
    language: str | None = None
    segments: list[_Segment] | None = None
    words: list[_Word] | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """The answer for one window.

    Attributes:
        language: a code; None if the server gives none, or nobody spoke.
        parts: the segments, without words, in seconds of the window; empty if they have no times.
        words: each with the white space before it.
        scored: whether the server gave scores.
    """

    text: str
    language: str | None
    parts: tuple[Segment, ...]
    words: tuple[WindowWord, ...]
    scored: bool

    @classmethod
    def load(cls, data: dict[str, Any]) -> Said:
        """The inverse of `dump`, for an answer that was kept in the vCon."""
        return cls(
            text=data["text"],
            language=data["language"],
            parts=tuple(Segment(*one) for one in data["parts"]),
            words=tuple(WindowWord(*one) for one in data["words"]),
            scored=data["scored"],
        )

    def dump(self) -> dict[str, Any]:
        """The answer as plain JSON, to keep in the vCon."""
        parts = [
            [one.start_s, one.end_s, one.text, [], one.avg_logprob, one.no_speech_prob,
             one.compression_ratio, one.temperature]
            for one in self.parts
        ]  # fmt: skip
        words = [[one.start_s, one.end_s, one.text, one.confidence] for one in self.words]
        return {
            "text": self.text,
            "language": self.language,
            "parts": parts,
            "words": words,
            "scored": self.scored,
        }


def read(content: bytes, url: str) -> Said:
    """Read an answer.

    Raises:
        FailedAttemptError: it is no transcription; another attempt may succeed.
    """
    try:
        answer = _Answer.model_validate(orjson.loads(content))
    except orjson.JSONDecodeError:
        shown = content[:_SHOWN_CHARS].decode("utf-8", "replace")
        raise FailedAttemptError(f"POST {url}: no JSON but {shown!r}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise FailedAttemptError(f"POST {url}: the answer is no transcription: {what}") from None
    segments = answer.segments or []
    spoken = [one for one in segments if not one.silent]
    quiet = [one for one in segments if one.silent]
    heard = "".join(_spaced(one.text) for one in spoken) if quiet else answer.text
    text = heard.strip()
    sure = [math.exp(min(one.avg_logprob, 0)) for one in spoken if one.avg_logprob is not None]
    usual = sum(sure) / len(sure) if sure else 1.0
    words = list(_timed(answer.words or (), 0.0, usual)) or [
        word for one in spoken for word in _timed(one.words or (), one.start, usual)
    ]
    words = [one for one in words if not any(_within(one, part) for part in quiet)]
    return Said(
        text=text,
        language=code_of(answer.language) if text else None,
        parts=tuple(_part(one) for one in spoken if one.text.strip()),
        words=tuple(_with_spaces(text, words)) if text and words else (),
        scored=bool(sure) or not text,
    )


def heard_in(plan: Plan, said: Said) -> list[Segment]:
    """The segments of a window, with times of the recording. The window has only one channel."""
    if not said.words and said.parts:
        found = []
        for part in said.parts:
            start_s, end_s = times_of(plan, part.start_s, part.end_s)
            found.append(_moved(part, start_s, max(start_s, end_s)))
        return found
    answer = Answer(
        text=said.text,
        language=said.language or "",
        words=said.words,
        avg_logprob=_mean([one.avg_logprob for one in said.parts], 0.0),
        no_speech_prob=max((one.no_speech_prob for one in said.parts), default=0.0),
        compression_ratio=max((one.compression_ratio for one in said.parts), default=1.0),
        temperature=max((one.temperature for one in said.parts), default=0.0),
    )
    channel = plan[0].channel
    return segments_by_channel([plan], {0: answer}, channel + 1)[channel]


def _part(one: _Segment) -> Segment:
    return Segment(
        start_s=one.start,
        end_s=max(one.start, one.end),
        text=one.text.strip(),
        avg_logprob=min(one.avg_logprob or 0.0, 0.0),
        no_speech_prob=one.no_speech_prob or 0.0,
        compression_ratio=one.compression_ratio or 1.0,
        temperature=one.temperature or 0.0,
    )


def _moved(part: Segment, start_s: float, end_s: float) -> Segment:
    return Segment(
        start_s,
        end_s,
        part.text,
        (),
        part.avg_logprob,
        part.no_speech_prob,
        part.compression_ratio,
        part.temperature,
    )


def _timed(words: Sequence[_Word], at_s: float, usual: float) -> Iterator[WindowWord]:
    """The words, as the server spells them. A word without times is where the word before it ends.
    If no word has times, there are none.

    Args:
        at_s: where the first word is if it has no times.
        usual: the confidence of a word without one.
    """
    if all(word.start is None for word in words):
        return
    for word in words:
        start_s = at_s if word.start is None else word.start
        at_s = max(start_s, start_s if word.end is None else word.end)
        sure = usual if word.probability is None else min(max(word.probability, 0.0), 1.0)
        yield WindowWord(start_s, at_s, word.word, round(sure, 4))


def _within(word: WindowWord, segment: _Segment) -> bool:
    return segment.start <= (word.start_s + word.end_s) / 2 <= segment.end


def _spaced(text: str) -> str:
    return text if text[:1].isspace() else f" {text}"


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _with_spaces(text: str, words: Sequence[WindowWord]) -> Iterator[WindowWord]:
    """The words with their punctuation and the white space before them, taken from the text.

    Servers omit both in words. If the words are not all found in the text, in order, each word gets
    one space.
    """
    for word, shown in zip(words, _cut(text, [one.text.strip() for one in words]), strict=True):
        yield replace(word, text=shown)


def _cut(text: str, words: Sequence[str]) -> list[str]:
    begins: list[int] = []
    at = 0
    for word in words:
        found = text.find(word, at)
        if found < 0 or not word:
            return [f" {one}" for one in words]
        begins.append(_before(text, at, found) if begins else 0)
        at = found + len(word)
    return [text[begin:end] for begin, end in zip(begins, [*begins[1:], len(text)], strict=True)]


def _before(text: str, last: int, begin: int) -> int:
    """Where a word begins, including white space and punctuation before its letters at `begin`."""
    gap = text[last:begin]
    spaces = [place for place, letter in enumerate(gap) if letter.isspace()]
    return last + spaces[0] if spaces else begin
