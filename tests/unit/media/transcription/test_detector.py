"""The voice detector: what numpy computes is what onnxruntime computes, and the same is speech."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from faster_whisper.utils import get_assets_path
from faster_whisper.vad import VadOptions, get_speech_timestamps
from hypothesis import given
from hypothesis import strategies as st

from conserver.media.transcription import detector
from conserver.media.transcription.onnx_weights import float_weights
from tests.unit.media.speech.real import channels_of

ASSETS = Path(get_assets_path())
CALLS = ("speech/garden.wav", "speech/order.wav")


def sounds() -> list[detector.Floats]:
    """Real calls, one of them long enough for several blocks, noise, and hardly anything."""
    real: list[detector.Floats] = [
        np.divide(channel, 32768, dtype=np.float32)
        for name in CALLS
        for channel in channels_of(name)
    ]
    noise = np.random.default_rng(5).normal(0, 0.05, 16000).astype(np.float32)
    return [*real, noise, noise[: detector.CHUNK], noise[:1], noise[:0]]


def test_the_file_of_the_network_is_the_known_one() -> None:
    assert isinstance(detector.network_in(ASSETS), detector.Network)


def test_numpy_computes_what_onnxruntime_computes() -> None:
    network = detector.network_in(ASSETS)
    for sound in sounds():
        found, expected = network(sound), detector.by_onnxruntime(sound.copy())
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_the_same_is_speech_as_for_faster_whisper(threshold: float) -> None:
    options = VadOptions(threshold=threshold, min_silence_duration_ms=160, speech_pad_ms=300)
    for sound in sounds():
        expected = [
            (one["start"], one["end"]) for one in get_speech_timestamps(sound.copy(), options)
        ]
        found = detector.speech(sound, threshold=threshold, pause_ms=160, padding_ms=300)
        assert found == expected


def test_a_file_that_is_not_known_is_left_to_faster_whisper(tmp_path: Path) -> None:
    (tmp_path / "silero_vad_v7.onnx").write_bytes(b"another network")
    assert detector.network_in(tmp_path) is detector.by_onnxruntime


@pytest.mark.parametrize("damaged", [b"\x3b", b"\x3a\xff"])
def test_what_is_no_model_is_refused(damaged: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        float_weights(damaged)


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=10, unique=True), st.integers(0, 9000))
def test_padding_never_makes_stretches_overlap(ends: list[int], padding: int) -> None:
    bounds = sorted({*ends, 0})
    stretches = list(zip(bounds[::2], bounds[1::2], strict=False))
    length = bounds[-1]
    found = detector.padded(stretches, length, padding)
    assert len(found) == len(stretches)
    for (start, end), (wide_start, wide_end) in zip(stretches, found, strict=True):
        assert 0 <= wide_start <= start < end <= wide_end <= length
        assert max(start - wide_start, wide_end - end) <= padding
    assert all(a[1] <= b[0] for a, b in pairwise(found))
