"""What a long call costs in memory, in a process of its own.

    python -m tests.unit.media.transcription.long_call FILE [vad]

decodes the file and makes all of its windows, one after the other, as a worker does, and prints
how much more memory that took than an idle worker has, in bytes, and the seconds of the windows.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from conserver.media.speech import packing
from conserver.media.transcription import audio, bleed, whisper
from conserver.media.transcription.engine import Listening
from conserver.media.transcription.samples import Samples

WINDOW_SAMPLES = 30 * audio.SAMPLE_RATE_HZ


def peak_bytes() -> int:
    """The most that this process has had in memory."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def windows_s(channels: tuple[Samples, ...], *, vad: bool) -> float:
    """How many seconds of sound the windows of these channels have, each of them made once."""
    plans = packing.plans(
        channels, Listening(vad=vad), WINDOW_SAMPLES, pulse=lambda: None, together=True
    )
    return sum(len(packing.sound_of(plan, channels)) for plan in plans) / audio.SAMPLE_RATE_HZ


def main(path: str, *options: str) -> None:
    """Measure one file."""
    vad = "vad" in options
    whisper.import_libraries()
    second = np.zeros(audio.SAMPLE_RATE_HZ, np.int16)
    second[::7] = 8000
    windows_s((second,), vad=vad)  # Libraries and the voice detector are loaded in an idle worker.
    before = peak_bytes()
    with Path(path).open("rb") as file:
        recording = audio.decode(file, max_duration_s=24 * 3600)
    bleed.silence(recording.channels)
    heard_s = windows_s(recording.channels, vad=vad)
    sys.stdout.write(f"{peak_bytes() - before} {heard_s}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
