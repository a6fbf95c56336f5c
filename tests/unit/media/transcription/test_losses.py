"""What a recording has lost is told in seconds, and the times of the rest are kept."""

from __future__ import annotations

import numpy as np
import pytest

from conserver.errors import Rejected
from conserver.media.transcription.audio import decode
from conserver.media.transcription.samples import Samples
from tests.unit.media.transcription.sounds import Sound, encoded, tone, wav

SECONDS = 24
BEEP_S = 20.0
"""From here on there is a tone, behind noise: where it is found tells whether times are kept."""


def call(rate_hz: int) -> Sound:
    """Noise, which no codec makes small, and a tone at its end."""
    noise = np.random.default_rng(1).normal(0, 2000, round(BEEP_S * rate_hz)).astype(np.int16)
    return np.concatenate([noise, tone(440, SECONDS - BEEP_S, rate_hz, 0.9)])


def beep_s(channel: Samples) -> float:
    """When the tone begins, which lasts until nearly the end: damage may be loud as well."""
    blocks = channel[: len(channel) // 800 * 800].reshape(-1, 800).astype(np.float64)
    quiet = np.sqrt(np.mean(blocks**2, axis=1)) < 12_000
    return float(np.flatnonzero(quiet[:-4])[-1] + 1) * 0.05


FORMATS = [
    ("wav", "pcm_s16le", 8000),
    ("wav", "pcm_mulaw", 8000),
    ("au", "pcm_s16be", 8000),
    ("aiff", "pcm_s16be", 8000),
    ("mp3", "libmp3lame", 16000),
    ("webm", "libopus", 48000),
    ("flac", "flac", 16000),
]


@pytest.mark.parametrize(("container", "codec", "rate_hz"), FORMATS)
def test_a_file_that_was_cut_off_says_how_much_is_missing(
    container: str, codec: str, rate_hz: int
) -> None:
    content = encoded(container, codec, call(rate_hz), rate_hz=rate_hz)
    whole = decode(content, max_duration_s=60, said_s=SECONDS)
    assert (whole.warnings, round(whole.duration_s)) == ((), SECONDS)
    cut = decode(content[: len(content) * 2 // 5], max_duration_s=60)
    told = f"{SECONDS - cut.duration_s:.1f} s of {SECONDS:.1f} s are missing, by the file's header"
    assert told in cut.warnings


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"), [("ogg", "libopus", 48000), ("adts", "aac", 16000)]
)
def test_a_file_that_does_not_know_its_length_is_compared_with_the_dialog(
    container: str, codec: str, rate_hz: int
) -> None:
    content = encoded(container, codec, call(rate_hz), rate_hz=rate_hz)
    assert decode(content, max_duration_s=60, said_s=SECONDS + 1).warnings == ()
    cut = decode(content[: len(content) * 2 // 5], max_duration_s=60, said_s=SECONDS)
    assert cut.warnings[-1] == (
        f"{SECONDS - cut.duration_s:.1f} s of {SECONDS:.1f} s are missing, by the "
        "duration that the dialog has"
    )


def test_an_ogg_file_without_its_end_is_told_even_if_nobody_knows_its_length() -> None:
    content = encoded("ogg", "libopus", call(48000), rate_hz=48000)
    cut = decode(content[: len(content) // 2], max_duration_s=60)
    assert cut.warnings == ("the file has no end: the last of the call may be missing",)


def test_an_m4a_without_its_index_says_so() -> None:
    content = encoded("mp4", "aac", call(16000), rate_hz=16000)
    with pytest.raises(Rejected, match=r"its index \(moov\) is missing: the file was cut off"):
        decode(content[: len(content) // 2], max_duration_s=60)


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"),
    [
        ("mp3", "libmp3lame", 16000),
        ("ogg", "libopus", 48000),
        ("webm", "libopus", 48000),
        ("flac", "flac", 16000),
        ("mp4", "aac", 16000),
        ("mpegts", "aac", 16000),
    ],
)
def test_damage_in_the_middle_shifts_nothing_and_is_told(
    container: str, codec: str, rate_hz: int
) -> None:
    content = bytearray(encoded(container, codec, call(rate_hz), rate_hz=rate_hz))
    begin, size = len(content) // 4, len(content) // 10
    content[begin : begin + size] = np.random.default_rng(2).bytes(size)
    damaged = decode(bytes(content), max_duration_s=60)
    assert damaged.duration_s == pytest.approx(SECONDS, abs=0.2)
    assert beep_s(damaged.channels[0]) == pytest.approx(BEEP_S, abs=0.2)
    assert any("s are missing at" in warning for warning in damaged.warnings)


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"),
    [("ogg", "libopus", 48000), ("webm", "libopus", 48000), ("flac", "flac", 16000)],
)
def test_a_hole_in_the_middle_shifts_nothing_and_is_told(
    container: str, codec: str, rate_hz: int
) -> None:
    content = encoded(container, codec, call(rate_hz), rate_hz=rate_hz)
    begin = len(content) // 4
    holed = decode(content[:begin] + content[begin + len(content) // 10 :], max_duration_s=60)
    assert beep_s(holed.channels[0]) == pytest.approx(BEEP_S, abs=0.2)
    assert any("are kept as silence" in warning for warning in holed.warnings)


def test_two_channels_stay_apart_around_a_gap() -> None:
    sound = call(48000)
    content = encoded("webm", "libopus", sound, np.zeros_like(sound), rate_hz=48000)
    begin = len(content) // 4
    holed = decode(content[:begin] + content[begin + len(content) // 10 :], max_duration_s=60)
    left, right = holed.channels
    assert beep_s(left) == pytest.approx(BEEP_S, abs=0.2)
    assert np.abs(right[:].astype(np.int32)).max() < 2000


def test_silence_in_the_place_of_a_gap_counts_for_the_limit() -> None:
    content = encoded("ogg", "libopus", call(48000), rate_hz=48000)
    begin, end = len(content) // 10, len(content) * 8 // 10
    with pytest.raises(Rejected, match="longer than the limit of 5 s"):
        decode(content[:begin] + content[end:], max_duration_s=5)


def test_a_header_that_does_not_know_the_length_promises_nothing() -> None:
    content = bytearray(wav(tone()))
    for size in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\xf0\xff\x7f"):
        content[40:44] = size
        assert all(
            "missing" not in text for text in decode(bytes(content), max_duration_s=9).warnings
        )


@pytest.mark.parametrize("samples", [0, 1, 2])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_call_that_was_hung_up_at_once_is_no_fault(samples: int, channels: int) -> None:
    sound = [np.ones(samples, dtype=np.int16)] * channels
    found = decode(wav(*sound), max_duration_s=9)
    assert (found.source_channels, found.duration_s, found.warnings) == (channels, 0.0, ())
    assert [len(channel) for channel in found.channels] == [0] * channels
    assert found.sample_rate_hz == 8000


def test_a_header_without_its_sound_is_a_fault_and_says_how_much_is_missing() -> None:
    with pytest.raises(Rejected, match=r"no sound that can be decoded: 1.0 s of 1.0 s are missing"):
        decode(wav(tone())[:44], max_duration_s=9)
