"""Merges the segments of all channels into one conversation, in the order of speaking."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from typing import Any

from conserver.media.transcription.audio import Recording
from conserver.media.transcription.engine import Heard, Identity, Segment, Word
from conserver.media.transcription.readable import ends_paragraph, steady
from conserver.media.transcription.speakers import Speaker

# A segment is not cut at a shorter gap between two words.
_PAUSE_S = 0.5

# A shorter overlap of two voices is an ordinary change of speaker.
_OVERLAP_S = 0.3

_LANGUAGE_UNKNOWN = "und"  # BCP 47 for "undetermined".
_BCP47 = {"jw": "jv"}  # Whisper's own code -> the standard's.


@dataclass(frozen=True, slots=True)
class Transcription:
    """The transcription of one dialog: the input for results.py.

    Attributes:
        recording: the decoded recording.
        speakers: one per entry of `heard`; None if a channel has no single speaker.
        heard: the engine's result for each channel.
        identity: the engine and the model.
        options: the parameters, for documentation.
        started, finished: with time zone.
        warnings: about parties, for example; `recording` and `heard` have warnings of their own.
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
        """BCP 47 code of the channel with the most speech; "und" if it is not known."""
        known = [one for one in self.heard if one.language]
        if not known:
            return _LANGUAGE_UNKNOWN
        most = max(known, key=lambda one: sum(length_s(segment) for segment in one.segments))
        language = most.language or _LANGUAGE_UNKNOWN
        return _BCP47.get(language, language)


@dataclass(frozen=True, slots=True)
class Turn:
    """One segment of the conversation with its channel and speaker."""

    channel: int
    speaker: Speaker | None
    segment: Segment


def conversation(transcription: Transcription) -> list[Turn]:
    """The segments of all channels, sorted by their start. The times of their words increase."""
    duration_s = transcription.recording.duration_s
    channels = [steady(heard.segments, duration_s) for heard in transcription.heard]
    return turns_of(transcription.speakers, channels)


def turns_of(
    speakers: Sequence[Speaker | None], channels: Sequence[Sequence[Segment]]
) -> list[Turn]:
    """The segments of each channel as one conversation, sorted by their start.

    If the words of a segment have times, the segment is cut at a pause in which another channel
    speaks. Otherwise the other speaker's answer would come after the end of the whole segment.
    """
    spoken = [[_starts(segment) for segment in segments] for segments in channels]
    turns: list[Turn] = []
    for channel, segments in enumerate(channels):
        others = sorted(
            start
            for other, theirs in enumerate(spoken)
            if other != channel
            for starts in theirs
            for start in starts
        )
        for segment in segments:
            speaker = speakers[channel] or _voice(segment)
            turns += [Turn(channel, speaker, part) for part in _cut(segment, others)]
    return sorted(turns, key=lambda turn: (turn.segment.start_s, turn.channel))


def text_until(channels: Sequence[Sequence[Segment]], until_s: float) -> str:
    """The beginning of the conversation's text that no later speech can change.

    until_s: all speech before it is in `channels`.
    """
    turns = turns_of([None] * len(channels), channels)
    return text_of(list(takewhile(lambda turn: turn.segment.end_s <= until_s, turns)))


def paragraphs(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Group consecutive turns of one channel. A group also ends where a paragraph should."""
    grouped: list[list[Turn]] = []
    chars = 0
    for turn in turns:
        last = grouped[-1][-1] if grouped else None
        pause_s = turn.segment.start_s - last.segment.end_s if last else 0.0
        if (
            last is None
            or last.channel != turn.channel
            or last.speaker != turn.speaker
            or ends_paragraph(last.segment.text, chars, pause_s)
        ):
            grouped.append([])
            chars = 0
        grouped[-1].append(turn)
        chars += len(turn.segment.text) + 1
    return grouped


def text_of(turns: Sequence[Turn]) -> str:
    """The text of the turns, without names of speakers."""
    return " ".join(turn.segment.text for turn in turns)


def confidence_of(turns: Sequence[Turn]) -> float:
    """The mean confidence, 0 to 1, weighted by duration; 0 without turns."""
    total_s = sum(length_s(turn.segment) for turn in turns)
    if not total_s:
        return 0.0
    weighted = sum(segment_confidence(turn.segment) * length_s(turn.segment) for turn in turns)
    return round(weighted / total_s, 4)


def segment_confidence(segment: Segment) -> float:
    """The mean probability of a segment's tokens, 0 to 1."""
    return round(min(1.0, math.exp(segment.avg_logprob)), 4)


def silence_ratio(turns: Sequence[Turn], duration_s: float) -> float:
    """The share of the recording without speech, 0 to 1."""
    speech_s = 0.0
    reached_s = 0.0
    for turn in turns:
        start_s = max(turn.segment.start_s, reached_s)
        reached_s = max(reached_s, turn.segment.end_s)
        speech_s += max(0.0, reached_s - start_s)
    return round(min(1.0, max(0.0, 1 - speech_s / duration_s)), 4) if duration_s else 1.0


def overlapping(turns: Sequence[Turn]) -> bool:
    """Whether two channels speak at once for longer than an ordinary change of speaker takes."""
    end_s: dict[int, float] = {}
    for turn in turns:
        segment = turn.segment
        others = [end for channel, end in end_s.items() if channel != turn.channel]
        if min(segment.end_s, max(others, default=0.0)) - segment.start_s > _OVERLAP_S:
            return True
        end_s[turn.channel] = max(segment.end_s, end_s.get(turn.channel, 0.0))
    return False


def length_s(part: Segment | Word) -> float:
    """The duration in seconds; 0 if the model returned a negative one."""
    return max(0.0, part.end_s - part.start_s)


def _voice(segment: Segment) -> Speaker | None:
    """Who speaks on a channel of several parties, if the engine told their voices apart."""
    return Speaker(segment.speaker, segment.speaker) if segment.speaker else None


def _starts(segment: Segment) -> list[float]:
    return [word.start_s for word in segment.words] or [segment.start_s]


def _cut(segment: Segment, others: Sequence[float]) -> Iterator[Segment]:
    """Cut a segment at pauses that contain a start of `others`, which is sorted."""
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
