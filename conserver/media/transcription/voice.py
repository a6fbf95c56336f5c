"""Detects silence and cuts long channels into parts.

Speech models invent text for silence, for example on the channel of a party who never spoke.
Silent parts are therefore never passed to a model. A long channel is transcribed in parts, which
are cut at quiet moments. This limits the memory for the model's features (50 kB and more per second
of sound), lets calls share one model, and makes time limits and cancellation effective.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from conserver.media.transcription.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from conserver.media.transcription.samples import Samples

    Levels = npt.NDArray[np.float32]

STRETCH_S = 300
_LOOK_BACK_S = 30
BLOCKS_PER_S = 10
"""Levels per second."""
_BLOCK = SAMPLE_RATE_HZ // BLOCKS_PER_S

# -60 dB of full scale: above the noise of an idle telephone line, below the faintest speech that
# can be understood.
SILENCE_RMS = 32.8


def levels(samples: Samples) -> Levels:
    """The RMS of each tenth of a second of a channel, in units of int16 samples."""
    import numpy as np

    found = np.empty(-(-len(samples) // _BLOCK), dtype=np.float32)
    minute = 60 * BLOCKS_PER_S
    for first in range(0, len(found), minute):
        part = samples[first * _BLOCK : (first + minute) * _BLOCK].astype(np.float32)
        part = np.pad(part, (0, -len(part) % _BLOCK)).reshape(-1, _BLOCK)
        found[first : first + len(part)] = np.sqrt(np.einsum("ij,ij->i", part, part) / _BLOCK)
    return found


def is_silent(loudness: Levels) -> bool:
    """Whether none of these blocks can contain speech."""
    return loudness.size == 0 or bool(loudness.max() < SILENCE_RMS)


def stretches(
    loudness: Levels, sample_count: int, stretch_s: int = STRETCH_S
) -> Iterator[tuple[int, int]]:
    """Cut a channel into parts of at most `stretch_s` seconds: (first sample, end sample).

    Each cut is in the quietest tenth of a second of the last 30 s of the longest possible part.
    Silent parts are left out.
    """
    start = 0
    stretch = stretch_s * BLOCKS_PER_S
    look_back = min(_LOOK_BACK_S * BLOCKS_PER_S, stretch // 2)
    while start < len(loudness):
        end = min(start + stretch, len(loudness))
        if end < len(loudness):
            end -= look_back - 1 - int(loudness[end - look_back : end].argmin())
        if not is_silent(loudness[start:end]):
            yield start * _BLOCK, min(end * _BLOCK, sample_count)
        start = end
