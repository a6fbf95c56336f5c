"""Builds the segments of each channel of a call from the answers to its windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from conserver.media.speech import packing
from conserver.media.speech.packing import Place, Plan, place_at
from conserver.media.speech.windows import Answer, WindowWord
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Segment, Word

_SENTENCE_ENDS = ".?!。？！"
_ABBREVIATION_CHARS = 2  # "Mr." ends no sentence.
# Alignment stretches the first word after a pause over the pause.
_WORD_S_MAX = 0.7
_LONG_WORD = 2.0  # times the median of its window
_NEAR_S = 0.3
# An utterance of this length, including 0.6 s of padding, is computed again if it has no word.
_UNHEARD_S_MIN = 1.4


def segments_by_channel(
    plans: Sequence[Plan], answers: Mapping[int, Answer], channel_count: int
) -> list[list[Segment]]:
    """The segments of each channel, in order: one per sentence and utterance."""
    channels: list[list[Segment]] = [[] for _ in range(channel_count)]
    for number, plan in enumerate(plans):
        answer = answers[number]
        if not answer.text:
            continue
        for channel, segment in _segments(plan, answer):
            channels[channel].append(segment)
    return [sorted(found, key=lambda segment: segment.start_s) for found in channels]


def _segments(plan: Plan, answer: Answer) -> Iterator[tuple[int, Segment]]:
    empty = Segment(
        start_s=plan[0].start / SAMPLE_RATE_HZ,
        end_s=(plan[-1].start + plan[-1].length) / SAMPLE_RATE_HZ,
        text=answer.text,
        avg_logprob=answer.avg_logprob,
        no_speech_prob=answer.no_speech_prob,
        compression_ratio=answer.compression_ratio,
        temperature=answer.temperature,
    )
    if not answer.words:
        yield plan[0].channel, empty
        return
    for place, words in _utterances(plan, answer.words):
        for sentence in _sentences(_with_the_voice(place, words)):
            text = "".join(word.text for word in sentence).strip()
            yield (
                place.channel,
                replace(
                    empty,
                    start_s=sentence[0].start_s,
                    end_s=max(sentence[-1].end_s, sentence[0].start_s),
                    text=text,
                    words=tuple(sentence),
                ),
            )


def _with_the_voice(place: Place, words: Sequence[Word]) -> list[Word]:
    """The words; the first begins and the last ends with the voice, if the voice is near."""
    found = list(words)
    if place.voice is not None:
        begin_s, end_s = ((place.start + at) / SAMPLE_RATE_HZ for at in place.voice)
        if found[0].start_s - begin_s < _NEAR_S:
            found[0] = replace(found[0], start_s=round(begin_s, 3))
        if end_s - found[-1].end_s < _NEAR_S:
            found[-1] = replace(found[-1], end_s=round(end_s, 3))
    return found


def unheard(plan: Plan, answer: Answer) -> Plan:
    """The utterances of a window in which no word was found, as a window of their own.

    The window is empty if there are no such utterances, if words have no times, or if the whole
    window has no words.
    """
    if not answer.words:
        return ()
    heard = {place for place, _ in _utterances(plan, answer.words)}
    return packing.alone([place for place in plan if place not in heard and _speaks(place)])


def _speaks(place: Place) -> bool:
    """Whether a place is longer than one word. (Alignment may assign a word to the next place.)"""
    return place.length >= _UNHEARD_S_MIN * SAMPLE_RATE_HZ


def _utterances(plan: Plan, words: Sequence[WindowWord]) -> Iterator[tuple[Place, list[Word]]]:
    """The places of a window with their words, whose times are converted to the recording's."""
    usual_s = min(_WORD_S_MAX, median(word.end_s - word.start_s for word in words))
    last: Place | None = None
    group: list[Word] = []
    for word in words:
        start_s = word.start_s
        if word.end_s - start_s > _LONG_WORD * usual_s and _begins(plan, word, last):
            start_s = word.end_s - _LONG_WORD * usual_s
        place = place_at(plan, (start_s + word.end_s) / 2 * SAMPLE_RATE_HZ)
        if place is not last and last is not None:
            yield last, group
            group = []
        last = place
        group.append(
            Word(_moved(place, start_s), _moved(place, word.end_s), word.text, word.confidence)
        )
    if last is not None:
        yield last, group


def _begins(plan: Plan, word: WindowWord, last: Place | None) -> bool:
    """Whether a word ends in another place than the previous word."""
    return place_at(plan, word.end_s * SAMPLE_RATE_HZ) is not last


def times_of(plan: Plan, start_s: float, end_s: float) -> tuple[float, float]:
    """Converts a stretch of a window to the time of the recording, limited to one place."""
    place = place_at(plan, (start_s + end_s) / 2 * SAMPLE_RATE_HZ)
    return _moved(place, start_s), _moved(place, end_s)


def _moved(place: Place, second: float) -> float:
    """Converts a time of the window to the recording, limited to the voice in the place.

    Next to silence, alignment begins words too early and ends them too late by a tenth of a second.
    """
    first, last = place.voice or (0, place.length)
    within = min(max(second * SAMPLE_RATE_HZ - place.at, first), last)
    return round((place.start + within) / SAMPLE_RATE_HZ, 3)


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        sentence.append(word)
        text = word.text.strip().rstrip("\"'”’)")
        letters = text.rstrip(_SENTENCE_ENDS)
        if letters != text and (text[-1] != "." or len(letters) > _ABBREVIATION_CHARS):
            yield sentence
            sentence = []
    if sentence:
        yield sentence
