"""Bare faster-whisper: what the same speech costs without queue, batches across calls or channels.

Run as a process of its own, `python -m benchmark.bare_speech`, with an order in JSON on standard
input; the last line of its output is what it needed. It transcribes once before it is measured.
"""

from __future__ import annotations

import json
import sys
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conserver.media.transcription import audio

Sound = npt.NDArray[np.float32]

_HOW: dict[str, Any] = {
    "language": "en",
    "beam_size": 5,
    "temperature": [0.0, 0.4, 0.8],
    "word_timestamps": True,
    "vad_filter": True,
}


def main() -> None:
    """Do as ordered."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    order = json.load(sys.stdin)
    model = WhisperModel(order["model"], device="cpu", compute_type=order["compute_type"])
    pipeline = BatchedInferencePipeline(model)
    files = [Path(name) for name in order["files"]]
    loops = order["kind"] == "loop"
    if loops:
        sound = np.zeros(0, np.float32)
    else:
        from benchmark.speech import long_call

        sound = long_call().astype(np.float32) / np.float32(32768)

    def one(path: Path) -> str:
        channels = audio.decode(path.read_bytes(), max_duration_s=60).channels
        spoken: list[tuple[float, str]] = []
        for channel in channels:
            samples = np.ascontiguousarray(channel).astype(np.float32) / np.float32(32768)
            found, _ = model.transcribe(samples, condition_on_previous_text=False, **_HOW)
            spoken += [(word.start, word.word) for segment in found for word in segment.words or ()]
        spoken.sort(key=itemgetter(0))  # Words that begin at once keep their order.
        return "".join(text for _, text in spoken).strip()

    def whole(part: Sound) -> str:
        if order["kind"] == "plain":
            found, _ = model.transcribe(part, condition_on_previous_text=False, **_HOW)
        else:
            found, _ = pipeline.transcribe(part, batch_size=8, **_HOW)
        return " ".join(segment.text.strip() for segment in found)

    if loops:
        one(files[0])
    else:
        whole(sound[: 10 * audio.SAMPLE_RATE_HZ])
    cpu_s, began_s = time.process_time(), time.perf_counter()
    texts = [one(path) for path in files] if loops else [whole(sound)]
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "texts": texts}))


if __name__ == "__main__":
    main()
