"""An utterance without a word is heard a second time, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from conserver.media.speech.answered import Answered
from conserver.media.speech.packing import Place, Plan
from conserver.media.speech.planning import Planning
from conserver.media.speech.windows import Answer, WindowWord
from conserver.media.transcription.audio import SAMPLE_RATE_HZ as RATE
from tests.unit.media.transcription.sounds import silence

# Utterances of 3, 2 and 1 s, the second one by the other channel.
FIRST = Place(0, 10 * RATE, 3 * RATE, 0)
SECOND = Place(1, 20 * RATE, 2 * RATE, 4 * RATE)
THIRD = Place(0, 30 * RATE, RATE, 7 * RATE)
PLAN: Plan = (FIRST, SECOND, THIRD)
LATER: Plan = (Place(0, 40 * RATE, 5 * RATE, 0),)


def answer(*words: tuple[float, str]) -> Answer:
    timed = tuple(WindowWord(at, at + 0.3, f" {text}", 0.9) for at, text in words)
    return Answer(" ".join(text for _, text in words), "en", timed)


@pytest.fixture
def answered() -> Answered:
    minute = silence(60, RATE)
    planning = Planning([minute, minute], iter([PLAN, LATER]))
    planning.find()
    return Answered(planning, 2)


def texts(answered: Answered) -> list[list[tuple[float, str]]]:
    return [[(one.start_s, one.text) for one in channel] for channel in answered.segments()]


def test_an_utterance_without_a_word_is_heard_again_by_itself(answered: Answered) -> None:
    answered.take(0, answer((0.5, "Hello."), (7.2, "Bye.")))
    assert list(answered.missing) == [~0, 1]
    assert answered.plan(~0) == (Place(1, 20 * RATE, 2 * RATE, 0),)
    answered.take(~0, answer((0.4, "Yes.")))
    answered.take(1, answer((0.5, "Later.")))
    assert answered.complete
    assert texts(answered) == [
        [(10.5, "Hello."), (30.2, "Bye."), (40.5, "Later.")],
        [(20.4, "Yes.")],
    ]


def test_several_of_them_share_a_window(answered: Answered) -> None:
    answered.take(0, answer((7.2, "Bye.")))
    first, second = answered.plan(~0)
    assert (first, second.channel, second.start) == (FIRST, 1, 20 * RATE)
    assert second.at > first.end_at


def test_one_short_word_is_not_missed(answered: Answered) -> None:
    """Its time is often put to its neighbour's; it would be written twice."""
    answered.take(0, answer((0.5, "Hello."), (4.5, "Yes.")))
    assert list(answered.missing) == [1]


@pytest.mark.parametrize("found", [Answer("", "en"), Answer("Hello. Yes.", "en")])
def test_without_words_or_their_times_nothing_is_heard_again(
    answered: Answered, found: Answer
) -> None:
    answered.take(0, found)
    assert list(answered.missing) == [1]


def test_what_is_heard_again_is_not_heard_a_third_time(answered: Answered) -> None:
    answered.take(0, answer((7.2, "Bye.")))
    answered.take(~0, answer((0.4, "Hello.")))
    assert list(answered.missing) == [1]


def test_what_is_hardly_speech_the_second_time_is_left_out(answered: Answered) -> None:
    answered.take(0, answer((0.5, "Hello.")))
    answered.take(~0, replace(answer((0.4, "Thanks.")), no_speech_prob=0.7))
    answered.take(1, Answer("", "en", no_speech_prob=0.9))
    assert answered.complete
    assert texts(answered) == [[(10.5, "Hello.")], []]


def test_nothing_after_it_is_told_before_it_is_answered(answered: Answered) -> None:
    answered.take(1, answer((0.5, "Later.")))
    assert (answered.until_s, answered.done_s) == (10, 5)
    answered.take(0, answer((0.5, "Hello.")))
    assert (answered.until_s, answered.done_s) == (20, 11)
    answered.take(~0, Answer("", "en"))
    assert answered.complete


def test_what_was_kept_is_missing_the_same_afterwards(answered: Answered) -> None:
    answered.take(0, answer((0.5, "Hello.")))
    kept = answered.dump()
    answered.take(~0, answer((0.4, "Yes.")))

    def loaded(dumped: dict[str, Any]) -> Answered:
        again = Answered(answered._planning, 2)
        again.load(dumped)
        return again

    assert list(loaded(kept).missing) == [~0, 1]
    again = loaded(answered.dump())
    assert list(again.missing) == [1]
    assert texts(again) == texts(answered)
    other = loaded({str(~1): Answer("of another version", "en").dump()})
    assert list(other.missing) == [0, 1]


def test_a_call_is_in_the_language_of_most_of_its_speech(answered: Answered) -> None:
    answered.take(0, Answer("Hallo", "de"))
    answered.take(1, Answer("Hello", "en"))
    assert answered.most_spoken(0) == "de"
    assert answered.most_spoken(1) is None
