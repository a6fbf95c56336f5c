"""Packs the speech of all channels of a call into windows of at most one model input.

1. Finds the speech of each channel with a voice detector. Silence is not passed on.
2. Keeps short pauses within an utterance, so that its times stay linear. A longer pause ends the
   utterance; only the padding on either side of it stays.
3. Cuts an utterance that is longer than a window at a pause, else at its quietest place. Windows do
   not overlap.
4. Puts the utterances of all channels into the same windows, in the order in which they begin, with
   silence between them, because a window costs the same however full it is. Later, the times of
   the words show to which channel they belong.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from conserver.media.transcription import detector, voice
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Listening

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from conserver.media.transcription.samples import Samples

# The shortest pause at which a long utterance may be cut.
_CUT_PAUSE_MS = 160
# Speech is looked for in stretches of this length.
_LOOK_S = 60
# Speech is widened by this: the detector misses soft beginnings and ends.
_PADDING_MS = 300
# A voice begins with the first 10 ms that are not 20 dB fainter than its loudest tenth.
_VOICE_BLOCK = SAMPLE_RATE_HZ // 100
_VOICE_SHARE = 0.01
# Silence between two utterances of a window, besides their padding.
_JOINT_S = 0.4
# If an utterance would leave more than this share of a window empty, it is cut at a pause.
_EMPTY_SHARE = 0.35
# Without a pause, the cut is in the quietest tenth of a second of the last seconds of a window.
_LOOK_BACK_S = 10


computing = threading.Lock()
"""Only one thread of a worker at a time finds speech and makes windows, because the arrays for it
are large. Other workers use the other cores."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a channel: its first sample, and one past its last."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a channel in a window: `length` samples from `start`, at `at` in the window.

    `voice` is where the voice begins and ends within these samples, if this was measured.
    """

    channel: int
    start: int
    length: int
    at: int
    voice: tuple[int, int] | None = None

    @property
    def end_at(self) -> int:
        """One past its last sample in the window."""
        return self.at + self.length


Plan = tuple[Place, ...]
"""One window: its places, in order."""

Utterance = Sequence[Span]
"""Adjacent spans of one channel. The utterance may be cut between them."""


def plans(
    channels: Sequence[Samples],
    listening: Listening,
    window_samples: int,
    pulse: Callable[[], None],
    *,
    together: bool,
) -> Iterator[Plan]:
    """The windows of a call, each as soon as it is found.

    Args:
        channels: int16 at 16 kHz.
        listening: whether to use the voice detector, and its parameters.
        window_samples: the length of a full window.
        pulse: called every minute of sound; its exceptions pass through.
        together: whether a window may hold several channels.
    """

    def of(number: int) -> Iterator[tuple[int, Utterance]]:
        for spans in utterances(channels[number], listening, window_samples, pulse):
            yield number, spans

    found = map(of, range(len(channels)))
    if together:
        packed = pack(heapq.merge(*found, key=_by_start), window_samples)
    else:
        packed = chain.from_iterable(pack(one, window_samples) for one in found)
    for plan in packed:
        yield tuple(replace(place, voice=_voice(place, channels)) for place in plan)


def _by_start(one: tuple[int, Utterance]) -> tuple[int, int]:
    number, spans = one
    return spans[0].start, number


def utterances(
    samples: Samples, listening: Listening, window_samples: int, pulse: Callable[[], None]
) -> Iterator[Utterance]:
    """The utterances of a channel, in order."""
    loudness = voice.levels(samples)
    keep = max(0, listening.vad_pause_ms - 2 * _PADDING_MS) * SAMPLE_RATE_HZ // 1000
    for start, end in voice.stretches(loudness, len(samples), _LOOK_S):
        pulse()
        spans: list[Span] = []
        for span in _speech(samples, start, end, listening):
            if voice.is_silent(_levels_of(loudness, span)):
                continue
            if spans and span.start - spans[-1].end > keep:
                yield spans
                spans = []
            begin = spans[-1].end if spans else span.start  # A pause within an utterance is kept.
            spans += _short_enough(Span(begin, span.end), loudness, window_samples)
        if spans:
            yield spans


def _speech(samples: Samples, start: int, end: int, listening: Listening) -> Iterator[Span]:
    """The stretches of speech between two samples."""
    import numpy as np

    if not listening.vad:
        yield Span(start, end)
        return
    sound: npt.NDArray[np.float32] = np.divide(samples[start:end], 32768, dtype=np.float32)
    for first, last in detector.speech(
        sound,
        threshold=listening.vad_threshold,
        pause_ms=_CUT_PAUSE_MS,
        padding_ms=_PADDING_MS,
    ):
        yield Span(start + first, start + last)


def _levels_of(loudness: voice.Levels, span: Span) -> voice.Levels:
    first, last = (at * voice.BLOCKS_PER_S // SAMPLE_RATE_HZ for at in (span.start, span.end))
    return loudness[first : last + 1]


def _short_enough(span: Span, loudness: voice.Levels, window_samples: int) -> Iterator[Span]:
    """The span; if it is longer than a window, cut at its quietest places."""
    block = SAMPLE_RATE_HZ // voice.BLOCKS_PER_S
    start = span.start
    while span.end - start > window_samples:
        last = (start + window_samples) // block
        first = max(last - _LOOK_BACK_S * voice.BLOCKS_PER_S, start // block + 1)
        end = (first + int(loudness[first:last].argmin())) * block
        yield Span(start, end)
        start = end
    yield Span(start, span.end)


def pack(found: Iterable[tuple[int, Utterance]], window_samples: int) -> Iterator[Plan]:
    """Fill windows with utterances, (channel, spans) each, in the order given."""
    joint = round(_JOINT_S * SAMPLE_RATE_HZ)
    places: list[Place] = []
    for channel, spans in found:
        left = list(spans)
        while left:
            at = places[-1].end_at + joint if places else 0
            count = _fitting(left, window_samples - at)
            whole = count == len(left)
            if places and not whole and (window_samples - at) < _EMPTY_SHARE * window_samples:
                count = 0
            if count:
                start, end = left[0].start, left[count - 1].end
                places.append(Place(channel, start, end - start, at))
                left = left[count:]
            if left:
                yield tuple(places)
                places = []
    if places:
        yield tuple(places)


def alone(places: Iterable[Place]) -> Plan:
    """Makes a window of some places of another window."""
    joint = round(_JOINT_S * SAMPLE_RATE_HZ)
    found: list[Place] = []
    for place in places:
        at = found[-1].end_at + joint if found else 0
        found.append(replace(place, at=at))
    return tuple(found)


def _voice(place: Place, channels: Sequence[Samples]) -> tuple[int, int]:
    """Where the voice begins and ends in a place: its first and its last loud block."""
    import numpy as np

    count = place.length // _VOICE_BLOCK
    if not count:
        return 0, place.length
    taken = channels[place.channel][place.start : place.start + count * _VOICE_BLOCK]
    blocks = taken.astype(np.float32).reshape(count, _VOICE_BLOCK)
    powers = np.einsum("ij,ij->i", blocks, blocks)
    loud = np.flatnonzero(powers >= np.percentile(powers, 90) * _VOICE_SHARE)
    return int(loud[0]) * _VOICE_BLOCK, (int(loud[-1]) + 1) * _VOICE_BLOCK


def _fitting(spans: Sequence[Span], room: int) -> int:
    """How many of the spans fit into `room` samples."""
    return sum(1 for span in spans if span.end - spans[0].start <= room)


def sound_of(plan: Plan, channels: Sequence[Samples]) -> npt.NDArray[np.float32]:
    """The samples of a window, from -1 to 1, with silence between its places."""
    import numpy as np

    sound = np.zeros(plan[-1].end_at, dtype=np.float32)
    for place in plan:
        taken = channels[place.channel][place.start : place.start + place.length]
        np.divide(taken, 32768, out=sound[place.at : place.at + place.length])
    return sound


def speech_s(plan: Plan) -> float:
    """How many seconds of sound a window has."""
    return sum(place.length for place in plan) / SAMPLE_RATE_HZ


def place_at(plan: Plan, sample: float) -> Place:
    """The place of a window that is nearest to one of its samples."""
    return min(plan, key=lambda place: max(place.at - sample, sample - place.end_at, 0.0))
