"""Decoding: usual formats, channels apart, damage survived, nothing opened but the sound."""

from __future__ import annotations

import io
import random
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from conserver.errors import Rejected
from conserver.media.transcription.audio import decode
from conserver.media.transcription.headerless import MAX_CHANNELS
from conserver.media.transcription.samples import Samples
from tests.unit.media.transcription.sounds import encoded, silence, tone, wav


def loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples[:].astype(np.float64) ** 2)))


def pitch_hz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples[:].astype(np.float64)))
    return float(spectrum.argmax()) * 16000 / len(samples)


def test_mono_stays_one_channel_at_16_khz() -> None:
    recording = decode(wav(tone(440, 2)), max_duration_s=10)
    assert len(recording.channels) == recording.source_channels == 1
    assert recording.duration_s == pytest.approx(2, abs=0.01)
    assert recording.sample_rate_hz == 8000
    assert recording.format == "wav/pcm_s16le"
    assert recording.bit_rate_bps == 128_000
    assert not recording.dual_mono
    assert recording.warnings == ()
    assert pitch_hz(recording.channels[0]) == pytest.approx(440, abs=2)


def test_channels_are_kept_apart_and_in_order() -> None:
    recording = decode(wav(tone(440), tone(900)), max_duration_s=10)
    pitches = [pitch_hz(channel) for channel in recording.channels]
    assert pitches == pytest.approx([440, 900], abs=3)


@pytest.mark.parametrize("count", [3, 6, 8, MAX_CHANNELS])
def test_many_channels_are_not_mixed(count: int) -> None:
    sounds = [silence() for _ in range(count - 1)] + [tone()]
    recording = decode(wav(*sounds), max_duration_s=10)
    assert [loudness(channel) > 1000 for channel in recording.channels] == [False] * (count - 1) + [
        True
    ]


def test_more_channels_than_any_telephone_has_are_refused() -> None:
    sounds = [tone(seconds=0.1)] * (MAX_CHANNELS + 1)
    with pytest.raises(Rejected, match=f"{MAX_CHANNELS + 1} channels; the limit is {MAX_CHANNELS}"):
        decode(wav(*sounds), max_duration_s=10)


def test_the_same_sound_on_both_channels_is_kept_once() -> None:
    recording = decode(wav(tone(440), tone(440, volume=0.2)), max_duration_s=10)
    assert recording.dual_mono
    assert recording.source_channels == 2
    assert len(recording.channels) == 1


def test_dual_mono_is_recognised_through_a_lossy_codec() -> None:
    noise = np.random.default_rng(1).integers(-9000, 9000, 48_000).astype(np.int16)
    content = encoded("mp3", "libmp3lame", noise, noise, rate_hz=48_000)
    assert decode(content, max_duration_s=10).dual_mono


@pytest.mark.parametrize("other", [silence(), tone(450)], ids=["silence", "another sound"])
def test_two_different_channels_are_not_dual_mono(other: npt.NDArray[np.int16]) -> None:
    assert not decode(wav(tone(440), other), max_duration_s=10).dual_mono


def test_the_formats_of_mobile_phones_are_decoded() -> None:
    """AMR, 4.75 kbit/s: a second of frames as RFC 4867 has them."""
    content = b"#!AMR\n" + (bytes([0x04]) + bytes(12)) * 50
    recording = decode(content, media_type="audio/amr", max_duration_s=10)
    assert recording.duration_s == pytest.approx(1, abs=0.05)
    assert recording.format.startswith("amr")


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"),
    [
        ("wav", "pcm_mulaw", 8000),
        ("wav", "pcm_alaw", 8000),
        ("mp3", "libmp3lame", 16000),
        ("ogg", "libopus", 48000),
        ("webm", "libopus", 48000),
        ("flac", "flac", 16000),
        ("mp4", "aac", 16000),
        ("adts", "aac", 16000),
        ("au", "pcm_s16be", 8000),
        ("aiff", "pcm_s16be", 8000),
    ],
)
def test_usual_formats_are_decoded(container: str, codec: str, rate_hz: int) -> None:
    sound = tone(440, 1, rate_hz)
    recording = decode(encoded(container, codec, sound, rate_hz=rate_hz), max_duration_s=10)
    assert recording.duration_s == pytest.approx(1, abs=0.15)
    assert pitch_hz(recording.channels[0]) == pytest.approx(440, abs=5)


@pytest.mark.parametrize(
    ("media_type", "codec"),
    [("audio/PCMU", "pcm_mulaw"), ("audio/basic", "pcm_mulaw"), ("audio/x-alaw", "pcm_alaw")],
)
def test_headerless_telephone_audio_is_decoded_by_its_media_type(
    media_type: str, codec: str
) -> None:
    raw_format = codec.removeprefix("pcm_")
    content = encoded(raw_format, codec, tone(440, 2))
    assert len(content) == 16_000
    recording = decode(content, media_type=media_type, max_duration_s=10)
    assert recording.duration_s == pytest.approx(2, abs=0.01)
    assert pitch_hz(recording.channels[0]) == pytest.approx(440, abs=2)


def test_headerless_linear_audio_takes_rate_and_channels_from_the_media_type() -> None:
    interleaved = np.stack([tone(440, 1, 16000), tone(900, 1, 16000)], axis=1)
    content = interleaved.astype(">i2").tobytes()
    recording = decode(content, media_type="audio/L16; rate=16000; channels=2", max_duration_s=10)
    assert [pitch_hz(channel) for channel in recording.channels] == pytest.approx([440, 900], abs=3)


def test_content_is_believed_before_the_media_type() -> None:
    recording = decode(wav(tone()), media_type="audio/basic", max_duration_s=10)
    assert recording.format == "wav/pcm_s16le"


def test_a_file_that_breaks_off_gives_what_it_has() -> None:
    whole = wav(tone(seconds=2))
    assert decode(whole[: len(whole) // 2], max_duration_s=10).duration_s == pytest.approx(1, 0.02)


def test_damage_in_the_middle_does_not_cost_the_rest() -> None:
    content = bytearray(encoded("mp3", "libmp3lame", tone(seconds=4, rate_hz=16000), rate_hz=16000))
    middle = len(content) // 2
    content[middle : middle + 600] = random.Random(1).randbytes(600)
    recording = decode(bytes(content), max_duration_s=10)
    assert recording.duration_s == pytest.approx(4, abs=0.6)
    assert any("damaged" in warning for warning in recording.warnings)


def test_a_change_of_rate_within_the_file_is_followed() -> None:
    content = encoded("mp3", "libmp3lame", tone(440, 2, 16000), rate_hz=16000)
    content += encoded("mp3", "libmp3lame", tone(440, 2, 32000), rate_hz=32000)
    recording = decode(content, max_duration_s=10)
    assert recording.duration_s == pytest.approx(4, abs=0.3)
    assert "the sound format changed 1 times within the recording" in recording.warnings
    assert pitch_hz(recording.channels[0][-16_000:-3200]) == pytest.approx(440, abs=5)


def test_a_long_recording_is_refused_while_it_is_decoded() -> None:
    with pytest.raises(Rejected, match=r"longer than the limit of 1\.5 s"):
        decode(wav(tone(seconds=2)), max_duration_s=1.5)
    assert decode(wav(tone(seconds=1.5)), max_duration_s=1.5).duration_s == 1.5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>404 not found</body></html>",
        random.Random(2).randbytes(4000),
        bytes(4000),
        wav(tone())[:44],
        b"%PDF-1.7 and so on",
    ],
    ids=["empty", "html", "noise", "zeros", "header only", "pdf"],
)
def test_what_is_no_recording_is_rejected_with_a_reason(content: bytes) -> None:
    with pytest.raises(Rejected, match="the recording"):
        decode(content, media_type="audio/wav", max_duration_s=10)


def test_the_reason_tells_what_came_and_what_it_was_said_to_be() -> None:
    with pytest.raises(Rejected) as caught:
        decode(b"no sound", media_type="audio/wav", max_duration_s=10)
    assert caught.value.reason == (
        "the recording (8 bytes, said to be audio/wav) cannot be decoded: "
        "Invalid data found when processing input"
    )


def test_of_a_video_its_sound_is_decoded() -> None:
    recording = decode(video(tone(440, 1, 16000)), max_duration_s=10)
    assert recording.duration_s == pytest.approx(1, abs=0.15)
    assert pitch_hz(recording.channels[0]) == pytest.approx(440, abs=5)


def test_a_video_without_sound_says_so() -> None:
    content = video()
    with pytest.raises(Rejected, match="holds no audio stream"):
        decode(content, media_type="video/mp4", max_duration_s=10)


@pytest.mark.parametrize("kind", ["hls", "concat", "file"])
def test_no_recording_makes_us_open_another_file(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(tone(seconds=3)))
    content = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {secret}\n",
        "file": str(secret),
    }[kind]
    with pytest.raises(Rejected, match="cannot be decoded"):
        decode(content.encode(), media_type="audio/x-mpegurl", max_duration_s=10)


def video(sound: npt.NDArray[np.int16] | None = None) -> bytes:
    """A picture, and 16 kHz of sound if there is any."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        pictures = output.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 16
        pictures.pix_fmt = "yuv420p"
        heard = output.add_stream("aac", rate=16000, layout="mono") if sound is not None else None
        output.mux(pictures.encode(av.VideoFrame(16, 16, "yuv420p")))
        output.mux(pictures.encode(None))
        if heard is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = 16000
            resampler = av.AudioResampler(heard.format.name, "mono", 16000, frame_size=1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(heard.encode(piece))
            output.mux(heard.encode(None))
    return target.getvalue()
