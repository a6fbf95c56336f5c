"""What people read: paragraphs of a bearable length, words whose times increase."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.media.transcription import formats
from conserver.media.transcription.conversation import Turn, paragraphs
from conserver.media.transcription.engine import Segment, Word
from conserver.media.transcription.readable import steady
from conserver.media.transcription.transcript import Segment as Read
from conserver.media.transcription.transcript import Transcript

SENTENCE = "and then I told them about the invoice"


def monologue(count: int, end: str, pause_s: float = 0.1) -> list[Segment]:
    """One channel, as of a mono call: a sentence every three seconds or so."""
    found, at_s = [], 0.0
    for _ in range(count):
        found.append(Segment(at_s, at_s + 3, SENTENCE + end))
        at_s += 3 + pause_s
    return found


@pytest.mark.parametrize("end", [".", "?", "", "。"])
@pytest.mark.parametrize("pause_s", [0.1, 0.8, 3.0])
def test_a_long_call_of_one_channel_has_paragraphs(end: str, pause_s: float) -> None:
    segments = monologue(557, end, pause_s)
    grouped = paragraphs([Turn(0, None, one) for one in segments])
    assert [turn.segment for group in grouped for turn in group] == segments
    lengths = [sum(len(turn.segment.text) + 1 for turn in group) for group in grouped]
    assert max(lengths) < 900
    if pause_s > 2:
        assert len(grouped) == 557, "a long silence ends a paragraph"
    else:
        assert min(lengths[:-1]) >= 400, "and nothing else makes short ones"
    read = [Read(one.start_s, one.end_s, one.text) for one in segments]
    lines = formats.render(Transcript("x", segments=read), "text").splitlines()
    assert lines == [" ".join(turn.segment.text for turn in group) for group in grouped]


def test_a_change_of_channels_still_ends_a_paragraph() -> None:
    turns = [Turn(number % 2, None, one) for number, one in enumerate(monologue(6, "."))]
    assert [len(group) for group in paragraphs(turns)] == [1] * 6


def segment(*times: tuple[float, float]) -> Segment:
    words = tuple(Word(start, end, " word", 0.9) for start, end in times)
    return Segment(times[0][0], times[-1][1], "word " * len(words), words)


def times_of(segments: list[Segment]) -> list[tuple[float, float]]:
    words = [word for one in segments for word in one.words]
    return [(round(word.start_s, 6), round(word.end_s, 6)) for word in words]


def test_words_without_duration_get_one() -> None:
    given = [segment((0.0, 0.5), (0.5, 0.5), (0.5, 0.5), (0.9, 1.2)), segment((1.2, 1.2))]
    found = times_of(steady(given, 10))
    assert found == [(0.0, 0.5), (0.5, 0.52), (0.52, 0.54), (0.9, 1.2), (1.2, 1.22)]


def test_a_word_that_reaches_into_the_next_one_moves_nothing_else() -> None:
    found = times_of(steady([segment((0.0, 9.0), (0.5, 1.0), (1.0, 1.5))], 10))
    assert found == [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)]


def test_words_at_the_end_stay_inside_the_recording() -> None:
    found = times_of(steady([segment((0.0, 0.5), (1.0, 1.0), (1.0, 1.0))], 1.0))
    assert found == [(0.0, 0.5), (0.96, 0.98), (0.98, 1.0)]


def test_what_is_in_order_stays_the_same_object() -> None:
    given = [segment((0.0, 0.5), (0.7, 1.0)), Segment(2, 3, "no words")]
    assert all(one is other for one, other in zip(steady(given, 10), given, strict=True))


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), min_size=1, max_size=40))
def test_times_increase_whatever_a_model_says(times: list[tuple[float, float]]) -> None:
    (found,) = steady([segment(*times)], 62)
    assert all(word.end_s - word.start_s > 0.0199 for word in found.words)
    assert all(one.end_s <= other.start_s for one, other in pairwise(found.words))
    assert found.words[-1].end_s <= 62
    assert found.start_s <= found.words[0].start_s
    assert found.end_s >= found.words[-1].end_s
