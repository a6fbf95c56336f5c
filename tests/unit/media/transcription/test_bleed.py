"""A channel that hears the other one faintly: that is made silent, and nobody's speech with it."""

from __future__ import annotations

import math
from itertools import chain, permutations
from typing import Any

import numpy as np
import pytest

from conserver.media.speech import packing
from conserver.media.transcription import bleed
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Listening
from conserver.media.transcription.samples import Writer
from tests.unit.media.speech.real import channels_of
from tests.unit.media.transcription.sounds import silence

CALLS = ("order", "address", "window", "invoice")
_WINDOW = 30 * SAMPLE_RATE_HZ


def call(name: str) -> list[Any]:
    return [channel.copy() for channel in channels_of(f"speech/{name}.wav")]


def heard_faintly(sound: Any, db: float, late_s: float = 0.0) -> Any:
    """What a headset lets through: fainter, later, and without the highest tones."""
    kernel = np.hanning(9) / np.hanning(9).sum()
    faint = np.convolve(sound.astype(np.float64), kernel, "same") * 10 ** (db / 20)
    late = round(late_s * SAMPLE_RATE_HZ)
    return np.concatenate([np.zeros(late), faint])[: len(sound)]


def mixed(*parts: Any, noise: float = 8.0) -> Any:
    """Sounds on one channel, with the noise of a line."""
    drawn = np.random.default_rng(5).normal(0, noise, len(parts[0]))
    whole = sum(part.astype(np.float64) for part in parts) + drawn
    return whole.clip(-32768, 32767).round().astype(np.int16)


def spoken(channels: Any) -> list[list[tuple[float, float]]]:
    """Where the voice detector finds speech: (start, end) in seconds, per channel."""
    plans = packing.plans(channels, Listening(), _WINDOW, lambda: None, together=False)
    return [
        [
            (place.start / SAMPLE_RATE_HZ, (place.start + place.length) / SAMPLE_RATE_HZ)
            for plan in plans
            for place in plan
            if place.channel == number
        ]
        for number in range(len(channels))
    ]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("db", [-20, -30])
@pytest.mark.parametrize("late_s", [0.0, 0.12])
def test_what_each_side_hears_of_the_other_is_made_silent(
    name: str, db: float, late_s: float
) -> None:
    left, right = call(name)
    clean = [mixed(left), mixed(right)]
    channels = [
        mixed(left, heard_faintly(right, db, late_s)),
        mixed(right, heard_faintly(left, db, late_s)),
    ]
    before = spoken(channels)
    warnings = bleed.silence(channels)
    assert len(warnings) == 2
    for warning in warnings:
        assert "hears channel" in warning
        assert "not transcribed twice" in warning
    found, wanted = spoken(channels), spoken(clean)
    assert [len(one) for one in found] == [len(one) for one in wanted]
    for ours, theirs in zip(chain(*found), chain(*wanted), strict=True):
        assert ours == pytest.approx(theirs, abs=0.35)
    if db == -20:
        assert before != found  # The detector did hear it.


@pytest.mark.parametrize("name", CALLS)
def test_without_bleed_not_a_sample_is_changed(name: str) -> None:
    for channels in (call(name), [mixed(one) for one in call(name)]):
        before = [channel.copy() for channel in channels]
        assert bleed.silence(channels) == []
        assert all(np.array_equal(a, b) for a, b in zip(channels, before, strict=True))


def test_somebody_else_who_speaks_faintly_at_the_same_time_is_no_bleed() -> None:
    speech = [channels_of(f"speech/{name}.wav")[0] for name in CALLS]
    for one, other in permutations(speech, 2):
        assert bleed.silence([mixed(one), mixed(heard_faintly(other, -20))]) == []


def test_who_speaks_into_the_others_sentence_stays() -> None:
    left, right = call("order")
    own = np.roll(right, -2 * SAMPLE_RATE_HZ)  # While the left side speaks.
    left, own = np.concatenate([left, left]), np.concatenate([np.zeros_like(own), own])
    channels = [mixed(left), mixed(own, heard_faintly(left, -20))]
    before = channels[1].copy()
    (warning,) = bleed.silence(channels)
    assert warning.startswith("channel 1 hears channel 0 at -2")
    loud = np.abs(own) > 1000
    assert np.array_equal(channels[1][loud], before[loud])


def test_how_much_is_told_in_decibels_and_seconds() -> None:
    left, right = call("window")
    channels = [mixed(left), mixed(right, heard_faintly(left, -24))]
    loudness = [bleed.levels(channel) for channel in channels]
    found = bleed.find(loudness, 0, 1)
    assert found is not None
    assert 20 * math.log10(found.gain) == pytest.approx(-25, abs=2)
    assert bleed.find(loudness, 1, 0) is None


def test_a_recording_in_a_file_is_changed_too() -> None:
    left, right = call("address")
    writer = Writer(2, memory_bytes_max=0)
    both = [mixed(left), mixed(right, heard_faintly(left, -20))]
    writer.write(np.stack(both, axis=1).tobytes())
    channels = writer.channels()
    assert len(bleed.silence(channels)) == 1
    assert len(bleed.silence(both)) == 1
    assert np.array_equal(channels[1][:], both[1])
    assert np.array_equal(channels[0][:], both[0])


def test_silence_noise_and_one_channel_are_left_alone() -> None:
    left, _ = call("order")
    assert bleed.silence([left]) == []
    assert bleed.silence([left, silence(10, SAMPLE_RATE_HZ)]) == []
    assert bleed.silence([mixed(np.zeros(len(left))), mixed(np.zeros(len(left)), noise=90)]) == []
    assert bleed.silence([left[:4000], left[:4000]]) == []
