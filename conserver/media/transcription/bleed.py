"""Finds a channel on which the other party is heard faintly, so that nobody is transcribed twice.

A headset or a telephone line lets through what the other side says, 15 to 40 dB fainter and up to a
few tenths of a second late. A voice detector finds that speech, and the model writes it down again.

1. The loudness of both channels, 50 times a second, is compared in parts of three seconds. Where
   one follows the other, much fainter, that tells how much fainter and how late.
2. With that, what is heard of the other side is foretold for every moment. What is not louder than
   foretold is made silent; whoever speaks at the same time is louder, and stays.

Where this is not clear, nothing is changed: a sentence twice is better than a sentence lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

from conserver.media.transcription import samples as sound
from conserver.media.transcription import voice
from conserver.media.transcription.audio import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from conserver.media.transcription.samples import Samples

    Levels = npt.NDArray[np.float32]

_PER_S = 50
_BLOCK = SAMPLE_RATE_HZ // _PER_S
_PART = 3 * _PER_S
_STEP = _PART // 2
_LATE = (-2, 20)
"""Blocks that the faint channel may be early or late: from 0.04 s before to 0.4 s after."""
# Two people who speak by turns, or at once, come nowhere near it; an echo with some noise does.
_ALIKE_MIN = 0.85
_GAIN_MAX = 0.2  # -14 dB: what is louder is no bleed but a mix.
_LOUDNESS_MAX = 0.4  # Parts in which the faint channel is louder than this have speech of its own.
_GAIN_SPREAD = 2.0  # Parts whose gain is this much off the median are of something else.
_SHARE_MIN = 0.25  # of the parts in which the loud side alone speaks must show it.
_MARGIN = 2.0  # 6 dB louder than foretold is somebody else.
_SHORT = 2  # Blocks on either side: what is louder for less than a tenth of a second is nobody.
_NEAR_S = 0.3
"""Around somebody else's speech nothing is made silent: its soft beginning and end."""


@dataclass(frozen=True, slots=True)
class Bleed:
    """That channel `faint` hears channel `loud`.

    Attributes:
        gain: how loud, as a factor.
        late: by how many blocks.
    """

    loud: int
    faint: int
    gain: float
    late: int


def silence(channels: Sequence[Samples]) -> list[str]:
    """Make silent what channels hear of each other, and tell of it in sentences.

    Args:
        channels: of one recording, as its Writer gave them; changed in place.
    """
    if len(channels) < 2:
        return []
    loudness = [levels(channel) for channel in channels]
    warnings = []
    for loud, faint in permutations(range(len(channels)), 2):
        found = find(loudness, loud, faint)
        if found is None:
            continue
        seconds = _silence(channels[faint], loudness, found)
        if seconds:
            warnings.append(
                f"channel {faint} hears channel {loud} at {20 * math.log10(found.gain):.0f} dB: "
                f"{seconds:.1f} s of it were not transcribed twice"
            )
    return warnings


def levels(channel: Samples) -> Levels:
    """The RMS of each fiftieth of a second, in units of int16 samples."""
    import numpy as np

    found = np.empty(len(channel) // _BLOCK, dtype=np.float32)
    minute = 60 * _PER_S
    for first in range(0, len(found), minute):
        last = min(first + minute, len(found))
        part = channel[first * _BLOCK : last * _BLOCK].astype(np.float32).reshape(-1, _BLOCK)
        found[first:last] = np.sqrt(np.einsum("ij,ij->i", part, part) / _BLOCK)
    return found


def find(loudness: Sequence[Levels], loud: int, faint: int) -> Bleed | None:
    """How one channel hears another one; None if it does not, or not clearly."""
    import numpy as np

    seen, gains, lates = 0, [], []
    for first in range(0, len(loudness[loud]) - _PART + 1, _STEP):
        a = loudness[loud][first : first + _PART]
        b = loudness[faint][first : first + _PART]
        if voice.is_silent(a) or voice.is_silent(b) or b.mean() > _LOUDNESS_MAX * a.mean():
            continue
        seen += 1
        alike, gain, late = _compared(a, b)
        if alike >= _ALIKE_MIN and 0 < gain <= _GAIN_MAX:
            gains.append(gain)
            lates.append(late)
    if not gains:
        return None
    usual = float(np.median(gains))
    late = int(np.median(lates))
    same = sum(
        usual / _GAIN_SPREAD <= gain <= usual * _GAIN_SPREAD and abs(one - late) <= 2
        for gain, one in zip(gains, lates, strict=True)
    )
    return Bleed(loud, faint, usual, late) if same >= max(1.0, _SHARE_MIN * seen) else None


def _compared(a: Levels, b: Levels) -> tuple[float, float, int]:
    """How alike two parts are at most (their correlation), with which gain and how late."""
    import numpy as np

    best = (0.0, 0.0, 0)
    for late in range(_LATE[0], _LATE[1] + 1):
        x, y = (a[: len(a) - late], b[late:]) if late >= 0 else (a[-late:], b[:late])
        x, y = x - x.mean(), y - y.mean()
        power = float(np.dot(x, x))
        other = float(np.dot(y, y))
        if power > 0 and other > 0:
            common = float(np.dot(x, y))
            best = max(best, (common / (power * other) ** 0.5, common / power, late))
    return best


def _silence(channel: Samples, loudness: Sequence[Levels], found: Bleed) -> float:
    """Make silent what was foretold. Returns how many seconds of sound that were."""
    import numpy as np

    a, b = loudness[found.loud], loudness[found.faint]
    foretold = np.zeros_like(b)
    for late in range(found.late - 2, found.late + 3):  # Rooms smear it.
        np.maximum(foretold, _shifted(a, late), out=foretold)
    foretold *= found.gain * _MARGIN
    # What is below the floor of the channel needs no silencing, and is nobody's speech.
    floor = max(voice.SILENCE_RMS, 2 * float(np.percentile(b, 20)))
    heard = b > floor
    louder = heard & (b > foretold)
    others = _widened(~_widened(~louder, _SHORT), _SHORT + round(_NEAR_S * _PER_S))
    quiet = _widened(heard & ~others, 2) & ~others
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]])))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        sound.silence(channel, int(start) * _BLOCK, int(end) * _BLOCK)
    return float((heard & quiet).sum()) / _PER_S


def _shifted(levels: Levels, late: int) -> Levels:
    """The same `late` blocks later."""
    import numpy as np

    if late >= 0:
        return np.concatenate([np.zeros(late, levels.dtype), levels])[: len(levels)]
    return np.concatenate([levels[-late:], np.zeros(-late, levels.dtype)])


def _widened(blocks: npt.NDArray[np.bool_], by: int) -> npt.NDArray[np.bool_]:
    """Each True, and `by` blocks on either side of it."""
    import numpy as np

    count = np.convolve(blocks.astype(np.float32), np.ones(2 * by + 1, np.float32), "same")
    found: npt.NDArray[np.bool_] = count > 0.5
    return found
