"""How many lanes may encode at once.

The encoder needs much memory for a moment (two copies of the attention's scores: 108 MB with the
smallest model), and a batch that is decoded needs little. So lanes encode by turns while others
decode, as many at once as keeps all of them at work: their share of all lanes is the encoder's
share of the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SHARE_FIRST = 0.5
# The share of so many seconds of computing is relied on.
_LEARN_S = 5.0


class EncoderTurns:
    """Who may encode. Safe to use from several threads."""

    def __init__(self, lanes: int) -> None:
        """
        Args:
            lanes: how many threads compute.
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
        """Learn how long something took."""
        with self._changed:
            self._encoding_s += encoding_s
            self._decoding_s += decoding_s
            self._changed.notify_all()

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Wait for a turn, and hold it."""
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
        """What is done here is not encoding."""
        began_s = time.monotonic()
        yield
        self.note(decoding_s=time.monotonic() - began_s)
