"""Silence is never given to a model; long channels are cut where nobody is interrupted."""

from __future__ import annotations

import numpy as np
import pytest

from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.voice import is_silent, levels, stretches
from tests.unit.media.transcription.sounds import silence, tone


def test_levels_are_rms_per_tenth_of_a_second() -> None:
    sound = np.concatenate([silence(0.1, 16000), np.full(1600, 1000, np.int16)])
    assert levels(sound).tolist() == pytest.approx([0, 1000])


def test_levels_of_a_channel_that_is_a_view_of_interleaved_samples() -> None:
    interleaved = np.stack([tone(440, 1, 16000), silence(1, 16000)], axis=1)
    assert not is_silent(levels(interleaved[:, 0]))
    assert is_silent(levels(interleaved[:, 1]))


@pytest.mark.parametrize(
    ("volume_db", "silent"), [(-80, True), (-63, True), (-50, False), (-10, False)]
)
def test_silence_is_below_60_db(volume_db: float, silent: bool) -> None:
    noise = np.random.default_rng(1).normal(0, 32768 * 10 ** (volume_db / 20), 32_000)
    assert is_silent(levels(noise.clip(-32768, 32767).astype(np.int16))) is silent


def test_nothing_is_silent() -> None:
    assert is_silent(levels(np.zeros(0, np.int16)))
    assert list(stretches(levels(np.zeros(0, np.int16)), 0)) == []


def test_a_short_channel_is_one_stretch() -> None:
    sound = tone(440, 12.34, SAMPLE_RATE_HZ)
    assert list(stretches(levels(sound), len(sound))) == [(0, len(sound))]


def test_a_long_channel_is_cut_at_its_quietest_moment() -> None:
    loud, quiet = tone(440, 50, SAMPLE_RATE_HZ), tone(440, 0.5, SAMPLE_RATE_HZ, volume=0.01)
    sound = np.concatenate([loud, quiet, loud])
    cuts = list(stretches(levels(sound), len(sound), stretch_s=60))
    assert len(cuts) == 2
    assert cuts[0][0] == 0
    assert cuts[0][1] == cuts[1][0]
    assert cuts[1][1] == len(sound)
    assert 50 * SAMPLE_RATE_HZ <= cuts[0][1] <= 50.5 * SAMPLE_RATE_HZ


def test_no_stretch_is_longer_than_allowed_and_nothing_is_lost() -> None:
    sound = np.random.default_rng(2).integers(-3000, 3000, 200 * SAMPLE_RATE_HZ).astype(np.int16)
    cuts = list(stretches(levels(sound), len(sound), stretch_s=7))
    assert all(0 < end - start <= 7 * SAMPLE_RATE_HZ for start, end in cuts)
    ends = [end for _, end in cuts]
    assert [start for start, _ in cuts] == [0, *ends[:-1]]
    assert ends[-1] == len(sound)


def test_silent_stretches_are_left_out() -> None:
    sound = np.concatenate([silence(100, SAMPLE_RATE_HZ), tone(440, 5, SAMPLE_RATE_HZ)])
    cuts = list(stretches(levels(sound), len(sound), stretch_s=40))
    assert len(cuts) == 1
    assert cuts[0][1] == len(sound)
