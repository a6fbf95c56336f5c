"""Decoded sound: the same whether it lies in memory or in a file, and never whole in memory."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from conserver.media.transcription.samples import Samples, Writer, silence
from tests.helpers import open_files

ROOT = Path(__file__).parents[4]
RATE_HZ = 8000


def sound(frames: int, channel_count: int) -> npt.NDArray[np.int16]:
    drawn = np.random.default_rng(7).integers(-32768, 32767, (frames, channel_count))
    return drawn.astype(np.int16)


def written(mixed: npt.NDArray[np.int16], memory_bytes_max: int) -> tuple[Samples, ...]:
    writer = Writer(mixed.shape[1], memory_bytes_max)
    for first in range(0, len(mixed), 777):
        writer.write(mixed[first : first + 777].tobytes())
    return writer.channels()


@pytest.mark.parametrize("channel_count", [1, 2, 5])
@pytest.mark.parametrize("memory_bytes_max", [0, 9000, 1 << 20])
def test_channels_read_the_same_from_memory_and_from_a_file(
    channel_count: int, memory_bytes_max: int
) -> None:
    mixed = sound(5000, channel_count)
    channels = written(mixed, memory_bytes_max)
    for index, channel in enumerate(channels):
        assert len(channel) == 5000
        for part in (slice(None), slice(10, 4990), slice(-100, None), slice(9, 9), slice(7, 1),
                     slice(4000, 9000)):  # fmt: skip
            assert np.array_equal(channel[part], mixed[part, index])


@pytest.mark.parametrize("memory_bytes_max", [0, 1 << 20])
def test_a_stretch_of_one_channel_is_made_silent(memory_bytes_max: int) -> None:
    mixed = sound(5000, 2)
    left, right = written(mixed, memory_bytes_max)
    silence(right, 1000, 2000)
    mixed[1000:2000, 1] = 0
    assert np.array_equal(right[:], mixed[:, 1])
    assert np.array_equal(left[:], mixed[:, 0])


def test_the_file_goes_with_its_last_channel() -> None:
    before = open_files()
    left, right = written(sound(5000, 2), 0)
    [file] = open_files() - before
    del left
    assert len(right[:10]) == 10
    assert file in open_files()
    del right
    assert file not in open_files()


def long_call(path: Path, minutes: int) -> Path:
    """Stereo in mu-law, 8 kHz: noise in turns of ten seconds, one side after the other."""
    turn = np.random.default_rng(3).integers(0, 256, (10 * RATE_HZ, 2)).astype(np.uint8)
    left, right = turn.copy(), turn.copy()
    left[:, 1] = right[:, 0] = 0xFF  # silence in mu-law
    minute = np.concatenate([left, right] * 3).tobytes()
    with path.open("wb") as file:
        length = minutes * len(minute)
        form = struct.pack("<HHIIHH", 7, 2, RATE_HZ, 2 * RATE_HZ, 2, 8)
        file.write(b"RIFF" + struct.pack("<I", 36 + length) + b"WAVEfmt ")
        file.write(struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", length))
        for _ in range(minutes):
            file.write(minute)
    return path


def measured(path: Path, *options: str) -> tuple[float, float]:
    """What `long_call` says of a file: MB, and seconds."""
    command = [
        sys.executable,
        "-m",
        "tests.unit.media.transcription.long_call",
        str(path),
        *options,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    more, heard_s = done.stdout.split()
    return int(more) / 1e6, float(heard_s)


def test_memory_does_not_grow_with_the_call(tmp_path: Path) -> None:
    more_mb, heard_s = measured(long_call(tmp_path / "call.wav", 30))
    assert heard_s == pytest.approx(2 * 30 * 60, rel=0.05)
    assert more_mb < 75  # The decoded sound alone is 115 MB.


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    not os.environ.get("CONSERVER_TEST_LONG"), reason="minutes; CONSERVER_TEST_LONG=1 runs it"
)
def test_a_call_of_four_hours_takes_less_than_200_mb(tmp_path: Path) -> None:
    path = long_call(tmp_path / "call.wav", 240)
    more_mb, heard_s = measured(path)
    sys.stdout.write(f"4 hours of stereo: {more_mb:.0f} MB more than idle\n")
    assert heard_s == pytest.approx(2 * 240 * 60, rel=0.05)
    assert more_mb < 200
    more_mb, _ = measured(path, "vad")
    sys.stdout.write(f"with the voice detector: {more_mb:.0f} MB\n")
    assert more_mb < 200


def test_a_full_disk_lets_the_call_come_again(tmp_path: Path) -> None:
    path = long_call(tmp_path / "call.wav", 6)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.media.transcription.long_call", str(path)],
        cwd=ROOT, capture_output=True, text=True, preexec_fn=little_room, check=False,
    )  # fmt: skip
    assert "Retry: no room for the decoded sound" in done.stderr
    assert "TMPDIR" in done.stderr
