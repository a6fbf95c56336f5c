"""Words of windows become segments of channels, in the time of the recording."""

from __future__ import annotations

from conserver.media.speech.assembly import segments_by_channel
from conserver.media.speech.packing import Place
from conserver.media.speech.windows import Answer, WindowWord
from conserver.media.transcription.audio import SAMPLE_RATE_HZ as RATE

PLAN = (Place(0, 10 * RATE, 2 * RATE, 0), Place(1, 20 * RATE, 2 * RATE, 3 * RATE))


def word(start_s: float, end_s: float, text: str) -> WindowWord:
    return WindowWord(start_s, end_s, text, 0.9)


def test_each_word_goes_to_the_channel_at_whose_place_it_was_spoken() -> None:
    words = (word(0.1, 0.5, " Hello"), word(0.6, 1.0, " there"), word(3.2, 3.6, " Yes"))
    channels = segments_by_channel([PLAN], {0: Answer("Hello there Yes", "en", words)}, 2)
    assert [[(s.start_s, s.end_s, s.text) for s in one] for one in channels] == [
        [(10.1, 11.0, "Hello there")],
        [(20.2, 20.6, "Yes")],
    ]


def test_a_segment_ends_with_its_sentence_but_not_with_an_abbreviation() -> None:
    texts = [" Mr.", " Miller", " called.", " Why?"]
    words = tuple(word(n * 0.3, n * 0.3 + 0.2, text) for n, text in enumerate(texts))
    (segments, _) = segments_by_channel([PLAN], {0: Answer("x", "en", words)}, 2)
    assert [segment.text for segment in segments] == ["Mr. Miller called.", "Why?"]


def test_a_word_that_alignment_stretched_over_the_joint_is_shortened() -> None:
    words = (word(0.1, 0.4, " one"), word(0.5, 0.8, " two"), word(1.0, 3.9, " three"))
    _, second = segments_by_channel([PLAN], {0: Answer("x", "en", words)}, 2)
    assert [one.text for one in second] == ["three"]
    assert second[0].start_s >= 20.0


def test_words_begin_and_end_with_the_voice() -> None:
    voice = (round(0.3 * RATE), round(1.6 * RATE))
    plan = (Place(0, 10 * RATE, 2 * RATE, 0, voice), PLAN[1])
    words = (word(0.1, 0.5, " Hello"), word(0.6, 1.9, " there"), word(3.0, 3.6, " Yes"))
    first, second = segments_by_channel([plan], {0: Answer("x", "en", words)}, 2)
    assert [(one.start_s, one.end_s) for one in first[0].words] == [(10.3, 10.5), (10.6, 11.6)]
    assert second[0].start_s == 20.0
    words = (word(0.5, 0.9, " Hello"), word(1.0, 1.4, " there"), word(3.0, 3.6, " Yes"))
    first, _ = segments_by_channel([plan], {0: Answer("x", "en", words)}, 2)
    assert [(one.start_s, one.end_s) for one in first[0].words] == [(10.3, 10.9), (11.0, 11.6)]


def test_a_word_far_from_the_edge_of_the_voice_stays_there() -> None:
    plan = (Place(0, 10 * RATE, 5 * RATE, 0, (0, 5 * RATE)),)
    words = (word(1.0, 1.4, " Hello"), word(1.5, 1.9, " there"))
    ((only,),) = segments_by_channel([plan], {0: Answer("x", "en", words)}, 1)
    assert (only.start_s, only.end_s) == (11.0, 11.9)


def test_text_without_times_spans_its_window() -> None:
    (segments, _) = segments_by_channel([PLAN[:1]], {0: Answer("hello", "en")}, 2)
    assert [(s.start_s, s.end_s, s.text) for s in segments] == [(10.0, 12.0, "hello")]


def test_a_window_without_text_gives_nothing() -> None:
    assert segments_by_channel([PLAN], {0: Answer("", "en")}, 2) == [[], []]
