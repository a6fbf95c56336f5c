"""Speech into windows: nothing lost, nothing twice, nothing silent, nothing too long."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conserver.media.speech.packing import (
    Place,
    Plan,
    Span,
    pack,
    place_at,
    plans,
    sound_of,
    utterances,
)
from conserver.media.transcription.audio import SAMPLE_RATE_HZ as RATE
from conserver.media.transcription.engine import Listening
from tests.unit.media.transcription.sounds import silence, tone

BARE = Listening(vad=False)
WINDOW = 30 * RATE


def nothing() -> None:
    pass


def covered(found: list[Plan], channel: int = 0) -> list[tuple[int, int]]:
    return sorted(
        (place.start, place.start + place.length)
        for plan in found
        for place in plan
        if place.channel == channel
    )


def test_a_long_sound_is_cut_into_windows_that_follow_each_other() -> None:
    sound = tone(300, 70, RATE)
    found = list(plans([sound], BARE, WINDOW, nothing, together=True))
    parts = covered(found)
    assert parts[0][0] == 0
    assert parts[-1][1] == len(sound)
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    assert max(end - start for start, end in parts) <= WINDOW


def test_a_cut_is_made_at_the_quietest_place() -> None:
    sound = tone(300, 40, RATE)
    sound[25 * RATE : 25 * RATE + RATE // 5] = 0
    found = list(plans([sound], BARE, WINDOW, nothing, together=True))
    assert abs(covered(found)[0][1] - 25 * RATE) <= RATE // 5


def test_a_place_knows_where_its_voice_is() -> None:
    hiss = np.random.default_rng(4).normal(0, 100, 4 * RATE).astype(np.int16)
    hiss[RATE : 3 * RATE] += tone(300, 2, RATE, 0.2)
    ((place,),) = plans([hiss], BARE, WINDOW, nothing, together=True)
    assert place.voice == (RATE, 3 * RATE)
    short = tone(300, 0.005, RATE)
    ((place,),) = plans([short], BARE, WINDOW, nothing, together=True)
    assert place.voice == (0, len(short))


def test_silence_is_not_handed_on() -> None:
    assert list(plans([silence(90, RATE)], Listening(), WINDOW, nothing, together=True)) == []
    assert list(plans([silence(90, RATE)], BARE, WINDOW, nothing, together=True)) == []


def test_channels_that_take_turns_share_a_window() -> None:
    found = [
        (0, [Span(0, RATE)]),
        (1, [Span(2 * RATE, 4 * RATE)]),
        (0, [Span(9 * RATE, 10 * RATE)]),
    ]
    (plan,) = pack(found, WINDOW)
    assert [(place.channel, place.start, place.length) for place in plan] == [
        (0, 0, RATE), (1, 2 * RATE, 2 * RATE), (0, 9 * RATE, RATE),
    ]  # fmt: skip
    assert all(b.at > a.end_at for a, b in pairwise(plan))


def test_channels_apart_have_windows_of_their_own() -> None:
    channels = [tone(300, 3, RATE), tone(500, 3, RATE)]
    apart = list(plans(channels, BARE, WINDOW, nothing, together=False))
    assert [{place.channel for place in plan} for plan in apart] == [{0}, {1}]


def test_an_utterance_is_cut_at_a_pause_rather_than_leave_half_a_window_empty() -> None:
    spans = [Span(start * RATE, (start + 5) * RATE) for start in range(0, 25, 5)]
    first, second = pack([(0, [Span(0, 12 * RATE)]), (1, spans)], WINDOW)
    assert [place.channel for place in first] == [0, 1]
    assert first[1].length == 15 * RATE
    assert second[0].start == 15 * RATE


def test_the_sound_of_a_window_has_each_place_where_it_says() -> None:
    left, right = tone(300, 2, RATE), tone(500, 2, RATE)
    plan = (Place(0, 0, RATE, 0), Place(1, RATE, RATE, 2 * RATE))
    sound = sound_of(plan, [left, right])
    assert len(sound) == 3 * RATE
    assert np.allclose(sound[:RATE] * 32768, left[:RATE])
    assert not sound[RATE : 2 * RATE].any()
    assert np.allclose(sound[2 * RATE :] * 32768, right[RATE:])


def test_a_sample_between_two_places_belongs_to_the_nearer_one() -> None:
    plan = (Place(0, 0, 100, 0), Place(1, 0, 100, 200))
    assert [place_at(plan, sample).channel for sample in (50, 120, 180, 250, 999)] == [
        0,
        0,
        1,
        1,
        1,
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.integers(1, 300), min_size=1, max_size=8)),
        max_size=12,
    )
)
def test_every_sample_is_in_one_window(parts: list[tuple[int, list[int]]]) -> None:
    window, found, at = 300 * RATE // 10, [], 0
    for channel, lengths in parts:
        spans = []
        for length in lengths:
            spans.append(Span(at, at + length * RATE // 10))
            at = spans[-1].end
        found.append((channel, spans))
        at += RATE
    packed = list(pack(found, window))
    assert all(plan[-1].end_at <= window for plan in packed)
    taken = sorted((p.channel, p.start, p.start + p.length) for plan in packed for p in plan)
    assert sum(end - start for _, start, end in taken) == sum(
        span.end - span.start for _, spans in found for span in spans
    )
    starts = {(channel, spans[0].start) for channel, spans in found}
    assert starts <= {(channel, start) for channel, start, _ in taken}


def test_a_pause_within_an_utterance_stays_and_a_long_one_does_not() -> None:
    # Tones are no speech to the detector: what it does with speech is in the integration tests.
    spoken = [list(one) for one in utterances(tone(300, 5, RATE), BARE, WINDOW, nothing)]
    assert spoken == [[Span(0, 5 * RATE)]]
