"""Sound files made on the spot; an engine that only pretends."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from conserver.media.transcription.engine import (
    CallHeard,
    Following,
    Heard,
    Identity,
    Listening,
    Model,
    Segment,
    Transcriber,
)

Sound = npt.NDArray[np.int16]


def tone(hz: float = 440, seconds: float = 1.0, rate_hz: int = 8000, volume: float = 0.5) -> Sound:
    """A sine as int16."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.round(np.sin(2 * math.pi * hz * times) * volume * 32767).astype(np.int16)


def silence(seconds: float = 1.0, rate_hz: int = 8000) -> Sound:
    """Nothing, as int16."""
    return np.zeros(round(seconds * rate_hz), dtype=np.int16)


def wav(*channels: Sound, rate_hz: int = 8000) -> bytes:
    """A WAV file of one or more channels of equal length."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.stack(channels, axis=1).tobytes())
    return target.getvalue()


def encoded(container: str, codec: str, *channels: Sound, rate_hz: int = 8000) -> bytes:
    """The same in any container and codec that PyAV brings with it."""
    target = io.BytesIO()
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    with av.open(target, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, av.AudioStream)
        packed = np.stack(channels, axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(
            stream.format.name, layout, rate_hz, frame_size=stream.frame_size or 1024
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return target.getvalue()


@dataclass
class FakeEngine:
    """Hears on every channel the texts it was given, and remembers what it was asked."""

    texts: Sequence[str] = ("hello",)
    failure: Exception | None = None
    identity: Identity = field(
        default_factory=lambda: Identity("whisper", "fake 1.0", "tiny", "cpu", "int8")
    )
    opened: list[Model] = field(default_factory=list)
    listened: list[tuple[int, Listening]] = field(default_factory=list)

    def open(self, model: Model) -> Transcriber:
        """An OpenTranscriber."""
        self.opened.append(model)
        return self

    def transcribe(
        self, channels: Sequence[Any], listening: Listening, following: Following
    ) -> CallHeard:
        """One segment a second on every channel."""
        heard = [self._channel(samples, listening, following.pulse) for samples in channels]
        return CallHeard(self.identity, tuple(heard))

    def _channel(self, samples: Any, listening: Listening, pulse: Callable[[], None]) -> Heard:
        self.listened.append((len(samples), listening))
        segments = []
        for second, text in enumerate(self.texts):
            pulse()
            if self.failure:
                raise self.failure
            segments.append(Segment(second, second + 0.9, text, avg_logprob=-0.1))
        return Heard(tuple(segments), "en", 0.9)
