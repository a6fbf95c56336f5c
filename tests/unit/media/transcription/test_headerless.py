"""Headerless audio by the names in use; whatever is assumed is told."""

from __future__ import annotations

import numpy as np
import pytest

from conserver.errors import Rejected
from conserver.media.transcription.audio import decode
from conserver.media.transcription.headerless import headerless
from tests.unit.media.transcription.sounds import encoded, tone


def pitch_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64)))
    return float(spectrum.argmax()) * 16000 / len(samples)


@pytest.mark.parametrize(
    ("media_type", "law"),
    [
        ("audio/mulaw", "mulaw"),
        ("audio/ULAW", "mulaw"),
        ("audio/x-ulaw", "mulaw"),
        ("audio/pcmu; rate=8000", "mulaw"),
        ("audio/g711u", "mulaw"),
        ("audio/alaw", "alaw"),
        ("audio/g711a", "alaw"),
        ("AUDIO/PCMA", "alaw"),
    ],
)
def test_names_of_the_two_laws_are_known_and_nothing_is_assumed(media_type: str, law: str) -> None:
    content = encoded(law, f"pcm_{law}", tone(440, 2))
    found = decode(content, media_type=media_type, max_duration_s=9)
    assert pitch_hz(found.channels[0][:]) == pytest.approx(440, abs=2)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("media_type", "told"),
    [
        ("audio/L16", ["audio/L16 names no rate: 8000 Hz was assumed"]),
        ("audio/L16;rate=fast", ["names no rate: 8000 Hz was assumed"]),
        ("audio/L16;rate=8000", []),
        ("audio/g711", ["does not say which law: mu-law was assumed"]),
        ("audio/pcm;rate=8000", ["signed 16 bits, little-endian, were assumed"]),
        ("audio/pcm", ["little-endian, were assumed", "names no rate: 8000 Hz"]),
    ],
)
def test_what_the_media_type_leaves_open_is_told(media_type: str, told: list[str]) -> None:
    found = decode(bytes(1600), media_type=media_type, max_duration_s=9)
    assert len(found.warnings) == len(told)
    assert all(part in text for part, text in zip(told, found.warnings, strict=True))


def test_linear_audio_of_both_orders() -> None:
    sound = tone(440, 1, 16000)
    for media_type, content in (
        ("audio/pcm;rate=16000", sound.astype("<i2").tobytes()),
        ("audio/l16;rate=16000", sound.astype(">i2").tobytes()),
    ):
        found = decode(content, media_type=media_type, max_duration_s=9)
        assert pitch_hz(found.channels[0][:]) == pytest.approx(440, abs=2)


def test_more_channels_than_are_allowed_are_refused_and_not_cut() -> None:
    with pytest.raises(Rejected, match="17 channels; the limit is 16"):
        decode(bytes(3400), media_type="audio/L16;rate=8000;channels=17", max_duration_s=9)


def test_other_types_are_not_headerless() -> None:
    assert headerless("audio/wav") is headerless("") is headerless("audio/mpeg; rate=8000") is None


def test_a_type_that_is_not_known_is_named() -> None:
    with pytest.raises(Rejected, match=r"said to be audio/vnd.nobody\) cannot be decoded"):
        decode(bytes(1600), media_type="audio/vnd.nobody", max_duration_s=9)
