"""Windows of a call, found one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conserver.media.speech.packing import Place, Plan, plans
from conserver.media.speech.planning import Planning, where
from conserver.media.transcription.audio import SAMPLE_RATE_HZ as RATE
from conserver.media.transcription.engine import Listening
from tests.unit.media.transcription.sounds import silence, tone

MINUTE = silence(60, RATE)
PLANS: list[Plan] = [
    (Place(0, 0, 20 * RATE, 0),),
    (Place(1, 5 * RATE, 5 * RATE, 0), Place(0, 30 * RATE, 10 * RATE, 6 * RATE)),
    (Place(1, 50 * RATE, RATE, 0),),
]


def test_no_more_windows_are_looked_for_than_are_wanted() -> None:
    asked: list[Plan] = []

    def coming() -> Iterator[Plan]:
        for plan in PLANS:
            asked.append(plan)
            yield plan

    planning = Planning([MINUTE, MINUTE], coming())
    planning.find(2)
    assert planning.known == asked == PLANS[:2]
    assert not planning.complete
    planning.find()
    assert planning.known == PLANS
    assert planning.complete


def test_sound_that_was_not_looked_at_counts_until_it_was() -> None:
    planning = Planning([MINUTE, MINUTE], iter(PLANS))
    totals_s = [planning.total_s()]
    for count in range(1, 5):
        planning.find(count)
        totals_s.append(planning.total_s())
    # Of 120 s: 100 are left after the first window, 70 after the second, 29 after the third.
    assert totals_s == [120, 20 + 100, 35 + 70, 36 + 29, 36]


def test_a_call_without_speech_has_no_windows() -> None:
    found = plans([MINUTE], Listening(), 30 * RATE, lambda: None, together=True)
    planning = Planning([MINUTE], found)
    planning.find(3)
    assert planning.complete
    assert planning.known == []


def test_a_channel_is_looked_at_minute_by_minute() -> None:
    minutes: list[None] = []
    sound = tone(300, 300, RATE)
    coming = plans(
        [sound], Listening(vad=False), 30 * RATE, lambda: minutes.append(None), together=True
    )
    planning = Planning([sound], coming)
    planning.find(1)
    assert len(minutes) < 3
    planning.find()
    assert len(minutes) >= 5
    assert sum(place.length for plan in planning.known for place in plan) == len(sound)


def test_a_digest_tells_plans_and_options_apart() -> None:
    def digest(found: list[Plan], *how: object) -> str:
        planning = Planning([MINUTE, MINUTE], iter(found))
        planning.find()
        return planning.digest(*how)

    assert digest(PLANS, {"beam": 5}) == digest(PLANS, {"beam": 5})
    assert digest(PLANS, {"beam": 5}) != digest(PLANS, {"beam": 1})
    assert digest(PLANS) != digest(PLANS[:2])


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (PLANS[2], "the speech on channel 1 from 50.0 s to 51.0 s"),
        (PLANS[1] * 2, "channel 1 from 5.0 s to 10.0 s and 1 more places"),
    ],
)
def test_a_window_is_named_for_people(plan: Plan, told: str) -> None:
    assert where(plan).endswith(told)
