"""What is on telephone lines and is not speech: int16 at 16 kHz, made on the spot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from conserver.media.transcription.audio import SAMPLE_RATE_HZ as RATE

Wave = npt.NDArray[np.float64]

# Rows and columns of a telephone's keys, ITU-T Q.23.
_ROWS_HZ, _COLUMNS_HZ = (697, 770, 852, 941), (1209, 1336, 1477)
# Four chords of three notes, as semitones above A3.
_CHORDS = ((0, 3, 7), (-4, 0, 3), (3, 7, 10), (-2, 2, 5))


def _times(seconds: float) -> Wave:
    return np.arange(round(seconds * RATE)) / RATE


def _tones(times: Wave, *hz: float) -> Wave:
    return sum((np.sin(2 * np.pi * one * times) for one in hz), np.zeros_like(times)) / len(hz)


def _cadence(times: Wave, on_s: float, off_s: float) -> Wave:
    return (times % (on_s + off_s) < on_s).astype(float)


def _band(sound: Wave, low_hz: float, high_hz: float) -> Wave:
    """Only what is between two frequencies, with its largest value at 1."""
    spectrum = np.fft.rfft(sound)
    found_hz = np.fft.rfftfreq(len(sound), 1 / RATE)
    spectrum[(found_hz < low_hz) | (found_hz > high_hz)] = 0
    kept = np.fft.irfft(spectrum, len(sound))
    scaled: Wave = kept / np.abs(kept).max()
    return scaled


def silence(seconds: float, _draw: np.random.Generator) -> Wave:
    """A line that is dead."""
    return np.zeros(round(seconds * RATE))


def noise(seconds: float, draw: np.random.Generator) -> Wave:
    """A line that hisses, at times loudly."""
    times = _times(seconds)
    return draw.normal(0, 0.05, len(times)) * (0.1 + _cadence(times, 5, 10))


def hum(seconds: float, draw: np.random.Generator) -> Wave:
    """The mains, with harmonics, under a fan."""
    times = _times(seconds)
    return 0.1 * _tones(times, 50, 100, 150, 250) + draw.normal(0, 0.005, len(times))


def ringing(seconds: float, _draw: np.random.Generator) -> Wave:
    """The other side's telephone rings."""
    times = _times(seconds)
    return 0.3 * _tones(times, 440, 480) * _cadence(times, 2, 4)


def engaged(seconds: float, _draw: np.random.Generator) -> Wave:
    """The other side speaks with somebody else."""
    times = _times(seconds)
    return 0.3 * _tones(times, 480, 620) * _cadence(times, 0.5, 0.5)


def fax(seconds: float, _draw: np.random.Generator) -> Wave:
    """A machine calls: 1100 Hz, then the other one's 2100 Hz."""
    times = _times(seconds)
    calling = _tones(times, 1100) * _cadence(times, 0.5, 3)
    return 0.3 * (calling + _tones(times, 2100) * _cadence(times + 4, 3, 7))


def keys(seconds: float, draw: np.random.Generator) -> Wave:
    """A number is dialled, again and again (DTMF)."""
    times = _times(seconds)
    found = np.zeros_like(times)
    for first in np.arange(0.5, seconds - 0.2, 0.2):
        if first % 6 < 3:
            part = slice(round(first * RATE), round((first + 0.1) * RATE))
            found[part] = _tones(times[part], draw.choice(_ROWS_HZ), draw.choice(_COLUMNS_HZ))
    return 0.4 * found


def music(seconds: float, draw: np.random.Generator) -> Wave:
    """Music on hold: chords and a melody, with overtones."""
    times = _times(seconds)
    found = np.zeros_like(times)
    for number, first in enumerate(np.arange(0, seconds, 0.5)):
        part = slice(round(first * RATE), round((first + 0.5) * RATE))
        chord = _CHORDS[number // 4 % len(_CHORDS)]
        notes = [220 * 2 ** (one / 12) for one in chord]
        melody = 440 * 2 ** (draw.choice(chord) / 12)
        inner = times[part] - first
        tones = _tones(inner, *notes, melody, 2 * melody, 3 * melody)
        found[part] = tones * np.exp(-2 * inner) * np.minimum(1, inner * 100)
    return 0.4 * found


def breath(seconds: float, draw: np.random.Generator) -> Wave:
    """Somebody breathes into the microphone, once in four seconds."""
    times = _times(seconds)
    rising = np.sin(np.pi * np.minimum(1, times % 4 / 1.5))
    return 0.15 * _band(draw.normal(0, 1, len(times)), 300, 3000) * rising


def keyboard(seconds: float, draw: np.random.Generator) -> Wave:
    """Somebody types, about six keys a second."""
    found = np.zeros(round(seconds * RATE))
    for at in np.sort(draw.integers(0, len(found) - RATE // 10, round(6 * seconds))):
        inner = _times(0.04)
        found[at : at + len(inner)] += draw.normal(0, 0.2, len(inner)) * np.exp(-120 * inner)
    return found


KINDS: dict[str, Callable[[float, np.random.Generator], Wave]] = {
    made.__name__: made
    for made in (
        silence, noise, hum, ringing, engaged, fax, keys, music, breath, keyboard
    )
}  # fmt: skip


def sound(kind: str, seconds: float) -> npt.NDArray[np.int16]:
    """So much of a kind; the same at every time."""
    wave = KINDS[kind](seconds, np.random.default_rng(5))
    return (np.clip(wave, -1, 1) * 32767).astype(np.int16)
