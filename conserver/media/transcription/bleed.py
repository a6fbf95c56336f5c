"""Silences bleed: a party's faint speech on the other party's channel. It would be transcribed
twice.

A headset or a telephone line lets through the other side's speech, 15 to 40 dB fainter and up to a
few tenths of a second late. The voice detector finds it, and the model transcribes it again.

1. `find` compares the loudness of both channels, 50 times a second, in parts of three seconds. If
   one channel follows the other, much fainter, it measures the gain and the delay.
2. `silence` predicts from gain and delay how loud the bleed is at every moment. It silences the
   channel unless the channel is louder than predicted; then its own party speaks.

If the comparison is not clear, nothing is changed: a sentence transcribed twice is better than a
lost one.
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
"""The delay of the faint channel, in blocks of 20 ms: from 0.04 s early to 0.4 s late."""
# The least correlation of bleed. An echo with some noise reaches it. Two people who speak by turns,
# or at once, stay far below.
_ALIKE_MIN = 0.85
_GAIN_MAX = 0.2  # -14 dB. A louder copy is a mix of both parties, not bleed.
_LOUDNESS_MAX = 0.4  # In parts with a louder faint channel, its own party speaks.
_GAIN_SPREAD = 2.0  # Parts whose gain differs from the median by this factor are ignored.
_SHARE_MIN = 0.25  # The share of the parts with only the loud party's speech that must show bleed.
_MARGIN = 2.0  # Sound 6 dB louder than predicted is the channel's own party.
_SHORT = 2  # Blocks on either side: louder sound of less than a tenth of a second is ignored.
_NEAR_S = 0.3
"""Nothing is silenced so close to the own party's speech, which begins and ends softly."""


@dataclass(frozen=True, slots=True)
class Bleed:
    """The speech of channel `loud` is heard on channel `faint`.

    Attributes:
        gain: its loudness on `faint`, as a factor of that on `loud`.
        late: its delay on `faint`, in blocks.
    """

    loud: int
    faint: int
    gain: float
    late: int


def silence(channels: Sequence[Samples]) -> list[str]:
    """Silence the bleed between the channels. Returns warnings about it, as sentences.

    Args:
        channels: of one recording, from a samples.Writer; changed in place.
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
    """The bleed of one channel on another; None if there is none, or it is not clear."""
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
    """The highest correlation of two parts over all delays, with its gain and delay."""
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
    """Silence the predicted bleed. Returns the seconds of sound that were silenced."""
    import numpy as np

    a, b = loudness[found.loud], loudness[found.faint]
    foretold = np.zeros_like(b)
    for late in range(found.late - 2, found.late + 3):  # Echoes in a room spread sound in time.
        np.maximum(foretold, _shifted(a, late), out=foretold)
    foretold *= found.gain * _MARGIN
    # Sound below the channel's noise floor is nobody's speech and need not be silenced.
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
    """The levels, delayed by `late` blocks."""
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
