"""The channels of a recording as one conversation: who said what, in which order."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from conserver.transcription.audio import Recording
from conserver.transcription.engine import Heard, Identity, Segment, Word
from conserver.transcription.speakers import Speaker

# A shorter gap between two words is no place at which an answer can stand.
_PAUSE_S = 0.5

# After a longer silence a paragraph ends although nobody else spoke.
_PARAGRAPH_PAUSE_S = 2.0

# Below that, two voices at once are just people taking turns.
_OVERLAP_S = 0.3

_LANGUAGE_UNKNOWN = "und"  # BCP 47 for "undetermined".
_BCP47 = {"jw": "jv"}  # Where Whisper has a code of its own.


@dataclass(frozen=True, slots=True)
class Transcription:
    """One dialog, heard: all that results are made of.

    Attributes:
        recording: as it was decoded.
        speakers: per channel of `heard`; None where a channel has no single speaker.
        heard: per channel that was listened to.
        identity: what listened.
        options: how, for the record.
        started, finished: when, with time zone.
        warnings: about parties and the like, beyond the recording's and the engine's own.
    """

    recording: Recording
    speakers: Sequence[Speaker | None]
    heard: Sequence[Heard]
    identity: Identity
    options: Mapping[str, Any]
    started: datetime
    finished: datetime
    warnings: Sequence[str] = ()

    @property
    def language(self) -> str:
        """BCP 47 code of the channel on which most was said; "und" if that is not known."""
        known = [one for one in self.heard if one.language]
        if not known:
            return _LANGUAGE_UNKNOWN
        most = max(known, key=lambda one: sum(length_s(segment) for segment in one.segments))
        language = most.language or _LANGUAGE_UNKNOWN
        return _BCP47.get(language, language)


@dataclass(frozen=True, slots=True)
class Turn:
    """One segment of the conversation, and whose it is."""

    channel: int
    speaker: Speaker | None
    segment: Segment


def conversation(transcription: Transcription) -> list[Turn]:
    """All channels' segments, in the order in which they begin.

    A segment is cut at a pause in which somebody else speaks, where its words have times:
    otherwise an answer would follow after all of what it answered and what came next.
    """
    spoken = [[_starts(segment) for segment in heard.segments] for heard in transcription.heard]
    turns: list[Turn] = []
    for channel, heard in enumerate(transcription.heard):
        others = sorted(
            start
            for other, segments in enumerate(spoken)
            if other != channel
            for starts in segments
            for start in starts
        )
        for segment in heard.segments:
            speaker = transcription.speakers[channel]
            turns += [Turn(channel, speaker, part) for part in _cut(segment, others)]
    return sorted(turns, key=lambda turn: (turn.segment.start_s, turn.channel))


def paragraphs(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Consecutive turns of one channel together, divided by other voices and by long silences."""
    grouped: list[list[Turn]] = []
    for turn in turns:
        last = grouped[-1][-1] if grouped else None
        if (
            last is None
            or last.channel != turn.channel
            or turn.segment.start_s - last.segment.end_s > _PARAGRAPH_PAUSE_S
        ):
            grouped.append([])
        grouped[-1].append(turn)
    return grouped


def text_of(turns: Sequence[Turn]) -> str:
    """What was said, without names."""
    return " ".join(turn.segment.text for turn in turns)


def confidence_of(turns: Sequence[Turn]) -> float:
    """The mean confidence, 0 to 1, weighted by duration; 0 where nothing was said."""
    total_s = sum(length_s(turn.segment) for turn in turns)
    if not total_s:
        return 0.0
    weighted = sum(segment_confidence(turn.segment) * length_s(turn.segment) for turn in turns)
    return round(weighted / total_s, 4)


def segment_confidence(segment: Segment) -> float:
    """The model's probability per token, 0 to 1."""
    return round(min(1.0, math.exp(segment.avg_logprob)), 4)


def silence_ratio(turns: Sequence[Turn], duration_s: float) -> float:
    """The share of the recording, 0 to 1, in which nobody speaks."""
    speech_s = 0.0
    reached_s = 0.0
    for turn in turns:
        start_s = max(turn.segment.start_s, reached_s)
        reached_s = max(reached_s, turn.segment.end_s)
        speech_s += max(0.0, reached_s - start_s)
    return round(min(1.0, max(0.0, 1 - speech_s / duration_s)), 4) if duration_s else 1.0


def overlapping(turns: Sequence[Turn]) -> bool:
    """Whether two channels ever speak at once for longer than people do in taking turns."""
    end_s: dict[int, float] = {}
    for turn in turns:
        segment = turn.segment
        others = [end for channel, end in end_s.items() if channel != turn.channel]
        if min(segment.end_s, max(others, default=0.0)) - segment.start_s > _OVERLAP_S:
            return True
        end_s[turn.channel] = max(segment.end_s, end_s.get(turn.channel, 0.0))
    return False


def length_s(part: Segment | Word) -> float:
    """Duration; never negative, whatever a model answers."""
    return max(0.0, part.end_s - part.start_s)


def _starts(segment: Segment) -> list[float]:
    return [word.start_s for word in segment.words] or [segment.start_s]


def _cut(segment: Segment, others: Sequence[float]) -> Iterator[Segment]:
    """The parts of a segment between which one of the (sorted) starts of `others` lies."""
    first = 0
    words = segment.words
    for index in range(1, len(words)):
        pause_from, pause_to = words[index - 1].end_s, words[index].start_s
        if pause_to - pause_from < _PAUSE_S:
            continue
        if bisect_left(others, pause_from) < bisect_left(others, pause_to):
            yield _part(segment, words[first:index])
            first = index
    yield _part(segment, words[first:]) if first else segment


def _part(segment: Segment, words: tuple[Word, ...]) -> Segment:
    text = "".join(word.text for word in words).strip()
    return replace(segment, start_s=words[0].start_s, end_s=words[-1].end_s, text=text, words=words)
