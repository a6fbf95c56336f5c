"""A transcriber that works for long takes no more memory than one that has just begun."""

from __future__ import annotations

import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conserver.media.speech.client import SharedTranscriber
from conserver.media.speech.service_options import ServiceOptions
from conserver.media.speech.standalone import running
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Following, Listening
from tests.unit.media.speech.real import TINY, channels_of

ROWS = 4
BATCHES = 1000
CALLS_AT_ONCE = 6
# Calls of one to nine windows: short ones and longer ones share batches all the time.
LENGTHS = (1, 3, 2, 9, 1, 5)
MORE_MAX = 1.1


def memory_mb(pid: int) -> float:
    """The private memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1000


class Soak:
    """Calls without end, until enough windows have been answered."""

    def __init__(self, address: str, pid: int, windows: int) -> None:
        self.engine = SharedTranscriber([address], TINY)
        self.windows = windows
        self.done = 0
        self.seen: list[tuple[int, float]] = []
        """Windows, and what the transcriber had in memory then."""
        self._pid = pid
        self._lock = threading.Lock()
        words = channels_of("calls/mono-8k.wav")[0]
        gap = np.zeros(9 * SAMPLE_RATE_HZ - len(words), np.int16)  # A window holds one of them.
        self._once = np.concatenate([words, gap])

    def run(self, first: int) -> None:
        """One caller."""
        number = first
        while self.done < self.windows:
            length = LENGTHS[number % len(LENGTHS)]
            number += 1
            heard = self.engine.transcribe(
                [np.tile(self._once, length)],
                Listening(language="en", vad=False),
                Following(lambda: None, self._progressed),
            )
            texts = [segment.text for segment in heard.channels[0].segments]
            assert texts == ["yes please call seven two four"] * length

    def _progressed(self, *_: Any) -> None:
        with self._lock:
            self.done += 1
            if self.done % (self.windows // 20) == 0:
                self.seen.append((self.done, memory_mb(self._pid)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not os.environ.get("CONSERVER_TEST_LONG"), reason="minutes; CONSERVER_TEST_LONG=1 runs it"
)
def test_memory_is_flat_over_a_thousand_batches() -> None:
    options = ServiceOptions(rows=ROWS, lanes=2, slots=8, models=(TINY,))
    with running(options) as transcriber:
        pid = transcriber.process.pid
        assert pid
        # A batch has four rows at most, so that there are at least so many batches.
        soak = Soak(transcriber.address, pid, ROWS * BATCHES)
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            for caller in [pool.submit(soak.run, first) for first in range(CALLS_AT_ONCE)]:
                caller.result()
        assert transcriber.process.pid == pid
        assert transcriber.process.is_alive()
    for windows, used_mb in soak.seen:
        sys.stdout.write(f"{windows} windows: {used_mb:.1f} MB\n")
    quarter = len(soak.seen) // 4
    used = [used_mb for _, used_mb in soak.seen]
    assert max(used[quarter:]) <= MORE_MAX * max(used[:quarter]), used
