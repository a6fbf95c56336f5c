"""Makes a transcript readable: short paragraphs, and words whose times increase.

A change of speakers ends a paragraph. In a call with one channel there is none, so a paragraph also
ends at a long pause, and at the end of a sentence once it has enough text. Some models write no
punctuation: then a shorter pause ends the paragraph, and finally its length alone.

The model's alignment gives about 2 % of the words no duration, or an end within the next word.
Players and subtitles need words that have a duration and begin after the end of the previous word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conserver.media.transcription.engine import Segment, Word

_PAUSE_S = 2.0
"""A longer silence ends a paragraph, even if nobody else spoke."""
_LONG_CHARS = 400
_LONGEST_CHARS = 800
_SHORT_PAUSE_S = 0.6
_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！", "؟", "।")

_WORD_S = 0.02
"""The least duration of a word: one frame of the model's alignment."""


def ends_paragraph(text: str, chars: int, pause_s: float) -> bool:
    """Whether a paragraph ends after this sentence.

    Args:
        text: the sentence.
        chars: length of the paragraph so far, with the sentence.
        pause_s: the silence after it.
    """
    if pause_s > _PAUSE_S or chars >= _LONGEST_CHARS:
        return True
    at_rest = text.rstrip().endswith(_SENTENCE_ENDS) or pause_s > _SHORT_PAUSE_S
    return chars >= _LONG_CHARS and at_rest


def steady(segments: Sequence[Segment], duration_s: float) -> list[Segment]:
    """The segments of one channel, with corrected times: words have a duration and do not overlap.

    Args:
        duration_s: of the recording, in seconds. No word is moved beyond it.
    """
    words = [word for segment in segments for word in segment.words]
    last_s = max((word.end_s for word in words), default=0.0)
    times = _within(_in_order(words), max(duration_s, last_s))
    found, first = [], 0
    for segment in segments:
        count = len(segment.words)
        mine = times[first : first + count]
        first += count
        if mine == [(word.start_s, word.end_s) for word in segment.words]:
            found.append(segment)
            continue
        moved = tuple(
            replace(word, start_s=start_s, end_s=end_s)
            for word, (start_s, end_s) in zip(segment.words, mine, strict=True)
        )
        start_s, end_s = min(segment.start_s, mine[0][0]), max(segment.end_s, mine[-1][1])
        found.append(replace(segment, start_s=start_s, end_s=end_s, words=moved))
    return found


def _in_order(words: Sequence[Word]) -> list[tuple[float, float]]:
    """(start, end) of each word: after the previous word, and if possible before the next one."""
    found = []
    reached_s = 0.0
    for number, word in enumerate(words):
        start_s = max(word.start_s, reached_s)
        end_s = word.end_s
        if number + 1 < len(words):
            end_s = min(end_s, words[number + 1].start_s)
        reached_s = max(end_s, start_s + _WORD_S)
        found.append((start_s, reached_s))
    return found


def _within(times: list[tuple[float, float]], duration_s: float) -> list[tuple[float, float]]:
    """The times; last words that would exceed the recording are moved to an earlier time."""
    limit_s = duration_s
    for number in range(len(times) - 1, -1, -1):
        start_s, end_s = times[number]
        if end_s <= limit_s:
            break
        end_s = max(limit_s, 0.0)
        start_s = max(min(start_s, end_s - _WORD_S), 0.0)
        times[number] = start_s, max(end_s, start_s)
        limit_s = start_s
    return times
