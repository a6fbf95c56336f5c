"""How many lanes may encode at once.

For a moment the encoder needs much memory (two copies of the attention's scores: 108 MB with the
smallest model); decoding needs little. So only some lanes encode at once, while the others decode.
The fraction of lanes that may encode is the encoder's fraction of the computing time, so that no
lane has to wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SHARE_FIRST = 0.5
# The encoder's fraction is used after this many seconds of computing.
_LEARN_S = 5.0


class EncoderTurns:
    """Limits how many lanes encode at once. Thread-safe."""

    def __init__(self, lanes: int) -> None:
        """
        Args:
            lanes: the number of lanes.
        """
        self._lanes = lanes
        self._changed = threading.Condition()
        self._at_work = 0
        self._encoding_s = 0.0
        self._decoding_s = 0.0

    @property
    def at_once(self) -> int:
        """How many lanes may encode at once now, at least 1."""
        total_s = self._encoding_s + self._decoding_s
        share = self._encoding_s / total_s if total_s >= _LEARN_S else _SHARE_FIRST
        return max(1, round(self._lanes * share))

    def note(self, encoding_s: float = 0.0, decoding_s: float = 0.0) -> None:
        """Add measured times, from which the encoder's fraction is computed."""
        with self._changed:
            self._encoding_s += encoding_s
            self._decoding_s += decoding_s
            self._changed.notify_all()

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Wait for a turn, and hold it within the `with` block."""
        with self._changed:
            self._changed.wait_for(lambda: self._at_work < self.at_once)
            self._at_work += 1
        began_s = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
            self.note(encoding_s=time.monotonic() - began_s)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Measure the `with` block as decoding."""
        began_s = time.monotonic()
        yield
        self.note(decoding_s=time.monotonic() - began_s)
