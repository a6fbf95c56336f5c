"""Finds the windows of one call while the transcriber computes the first ones.

Finding speech takes a tenth of the time of transcribing it. Without this overlap the device would
be idle until speech has been found in the whole call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from conserver.media.speech import packing
from conserver.media.speech.packing import Plan, speech_s
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.process import memory

if TYPE_CHECKING:
    from conserver.media.transcription.samples import Samples


class Planning:
    """The windows of a call that are known, and the search for further ones."""

    def __init__(self, channels: Sequence[Samples], coming: Iterator[Plan]) -> None:
        """
        Args:
            channels: of the call.
            coming: `packing.plans` of these channels. Its exceptions pass through every method.
        """
        self.known: list[Plan] = []
        """The windows found so far, in order."""
        self.complete = False
        """Whether all windows are known."""
        self._coming = coming
        self._ends = [0] * len(channels)
        self._lengths = [len(samples) for samples in channels]

    def find(self, count: int | None = None) -> None:
        """Find windows until `count` are known; None: all windows."""
        while not self.complete and (count is None or len(self.known) < count):
            with packing.computing:
                plan = next(self._coming, None)
            if plan is None:
                self.complete = True
                memory.trim_heap()  # Decoding and finding speech leave 3 MB of free heap.
                return
            self.known.append(plan)
            for place in plan:
                self._ends[place.channel] = place.start + place.length

    def total_s(self) -> float:
        """Seconds of speech. Sound that was not searched yet counts as speech."""
        rest = 0
        if not self.complete:
            rest = sum(self._lengths) - sum(self._ends)
        return sum(map(speech_s, self.known)) + rest / SAMPLE_RATE_HZ

    def searched(self) -> list[int]:
        """For each channel, the sample before which no further window begins; an empty list if all
        windows are known.
        """
        return [] if self.complete else list(self._ends)

    def digest(self, *how: Any) -> str:
        """A hash of all windows and of `how`: how they are computed. All windows must be known."""
        places = [
            [[one.channel, one.start, one.length, one.at] for one in plan] for plan in self.known
        ]
        return hashlib.sha256(orjson.dumps([places, *how])).hexdigest()


def where(plan: Plan) -> str:
    """Describes a window in words: channels and times."""
    parts = [
        f"channel {place.channel} from {place.start / SAMPLE_RATE_HZ:.1f} s"
        f" to {(place.start + place.length) / SAMPLE_RATE_HZ:.1f} s"
        for place in plan
    ]
    more = f" and {len(parts) - 3} more places" if len(parts) > 3 else ""
    return f"the speech on {', '.join(parts[:3])}{more}"
