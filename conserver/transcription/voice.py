"""Where a channel is silent, and where a long one is cut.

Speech models invent text on silence, and a party who never spoke is a silent channel: what is
silent here is never given to a model. A long channel is heard stretch by stretch, cut where it is
quietest: that bounds the memory of a model's features (50 kB and more per second of sound), lets
calls take turns on one model, and gives time limits and cancellation an edge to act at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from conserver.transcription.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from conserver.transcription.audio import Samples

    Levels = npt.NDArray[np.float32]

STRETCH_S = 300
_LOOK_BACK_S = 30
_BLOCKS_PER_S = 10
_BLOCK = SAMPLE_RATE_HZ // _BLOCKS_PER_S

# -60 dB of full scale. The noise of an idle telephone line is below, the faintest speech that can
# be understood above.
_SILENCE_RMS = 32.8


def levels(samples: Samples) -> Levels:
    """The loudness of a channel: the RMS of each tenth of a second, in units of int16 samples."""
    import numpy as np

    found = np.empty(-(-len(samples) // _BLOCK), dtype=np.float32)
    minute = 60 * _BLOCKS_PER_S
    for first in range(0, len(found), minute):
        part = samples[first * _BLOCK : (first + minute) * _BLOCK].astype(np.float32)
        part = np.pad(part, (0, -len(part) % _BLOCK)).reshape(-1, _BLOCK)
        found[first : first + len(part)] = np.sqrt(np.einsum("ij,ij->i", part, part) / _BLOCK)
    return found


def is_silent(loudness: Levels) -> bool:
    """Whether nothing in these blocks can be speech."""
    return loudness.size == 0 or bool(loudness.max() < _SILENCE_RMS)


def stretches(
    loudness: Levels, sample_count: int, stretch_s: int = STRETCH_S
) -> Iterator[tuple[int, int]]:
    """Cut a channel into parts of at most `stretch_s` seconds: (first sample, one past the last).

    Each cut is in the quietest tenth of a second among the last 30 s that the part could have.
    Parts that are silent throughout are left out.
    """
    start = 0
    stretch = stretch_s * _BLOCKS_PER_S
    look_back = min(_LOOK_BACK_S * _BLOCKS_PER_S, stretch // 2)
    while start < len(loudness):
        end = min(start + stretch, len(loudness))
        if end < len(loudness):
            end -= look_back - 1 - int(loudness[end - look_back : end].argmin())
        if not is_silent(loudness[start:end]):
            yield start * _BLOCK, min(end * _BLOCK, sample_count)
        start = end
