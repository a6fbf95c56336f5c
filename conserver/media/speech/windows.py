"""The seam: what a worker asks of a transcriber, window by window, and what it is answered.

A window is at most one input of the model (30 s with Whisper's own models), in shared memory (a
memfd): its log-mel spectrogram as float16 of the shape (bands, frames), 100 frames per second; or,
for a model without bands, its samples as int16, 160 per frame. The options of a window say how it
is decoded; windows with equal `key` may be decoded in one batch, whichever calls they are of.

One connection (SOCK_SEQPACKET, one JSON object per packet) carries one call:

    worker -> transcriber
        open    model, call            which model; answered by `info` once the model is loaded
        begin                          asks for a slot; answered by `admitted`, in order of asking
        window  id, frames, options, suspicion, crowd, trace   with the memfd
        speak   ids, language          decode these, whose languages were told, in this language
    transcriber -> worker
        info      what `ModelInfo` has
        admitted
        started   ids, crowd           a batch of so many rows has begun that contains these
        resting   ids, crowd           these wait again, for another temperature
        languages id, languages        a window without a language: the likely ones
        answer    id, answer           what `Answer` has
        failed    reason, retry_s      nothing can be computed now; the call is to come again later

The end of the connection is the end of the call, in both directions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from conserver.media.transcription.engine import Identity, Listening, Model

FRAMES_PER_S = 100
SAMPLES_PER_FRAME = 160


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How one window is decoded.

    Attributes:
        language: code such as "en"; None asks for the likely languages first, and the window is
            decoded when a `speak` names one. "" leaves it to a model that does not tell it.
        each_language: decode it in its own most likely language, without asking.
        others: as in `engine.Listening`.
    """

    language: str | None = None
    each_language: bool = False
    translate: bool = False
    beam_size: int = 5
    temperatures: tuple[float, ...] = (0.0, 0.4, 0.8)
    prompt: str | None = None
    hotwords: str | None = None
    words: bool = True

    @classmethod
    def of(cls, listening: Listening) -> WindowOptions:
        """The part of a link's options that concerns decoding."""
        return cls(
            language=listening.language,
            each_language=listening.multilingual,
            translate=listening.translate,
            beam_size=listening.beam_size,
            temperatures=listening.temperatures,
            prompt=listening.prompt,
            hotwords=listening.hotwords,
            words=listening.words,
        )

    @classmethod
    def load(cls, data: dict[str, Any]) -> WindowOptions:
        """From the message."""
        return cls(**{**data, "temperatures": tuple(data["temperatures"])})

    def dump(self) -> dict[str, Any]:
        """For the message."""
        return asdict(self)

    def suited(self, info: ModelInfo) -> tuple[WindowOptions, tuple[str, ...]]:
        """These options as far as a model can follow them, and what is to be said about that."""
        if self.language:
            if info.languages and self.language not in info.languages:
                told = f"the model knows no {self.language!r}: it heard the call as English"
                return self.speaking("en"), (told,)
        elif len(info.languages) == 1:
            return self.speaking(info.languages[0]), ()
        elif not info.detects:
            return self.speaking(""), ()
        return self, ()

    def speaking(self, language: str) -> WindowOptions:
        """The same in this language."""
        return replace(self, language=language, each_language=False)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a worker has to know of the model that hears it.

    Attributes:
        bands: mel bands of its input; 0 for one that takes samples.
        frames: frames of its input: 3000 for 30 s.
        languages: the codes that it knows; one for a model of English alone, none for one that
            cannot be told.
        aligns: whether it can tell the times of words on this device.
        ahead: how many windows of a call may be under way at once.
        detects: whether it tells in which language a window is.
        warnings: what every result of it has to say.
    """

    identity: Identity
    bands: int
    frames: int
    languages: tuple[str, ...]
    aligns: bool
    ahead: int
    detects: bool = True
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, data: dict[str, Any]) -> ModelInfo:
        """From the message."""
        return cls(
            identity=Identity(**data["identity"]),
            bands=data["bands"],
            frames=data["frames"],
            languages=tuple(data["languages"]),
            aligns=data["aligns"],
            ahead=data["ahead"],
            detects=data["detects"],
            warnings=tuple(data["warnings"]),
        )

    def dump(self) -> dict[str, Any]:
        """For the message."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class WindowWord:
    """A word with its times in seconds from the start of the window."""

    start_s: float
    end_s: float
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What was understood of a window. `text` is empty where nobody spoke."""

    text: str
    language: str
    words: tuple[WindowWord, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0
    temperature: float = 0.0

    @classmethod
    def load(cls, data: dict[str, Any]) -> Answer:
        """From the message, or from what a vCon kept on the way."""
        words = tuple(WindowWord(*word) for word in data["words"])
        return cls(**{**data, "words": words})

    def dump(self) -> dict[str, Any]:
        """For the message; words are lists in the order of their members."""
        words = [[word.start_s, word.end_s, word.text, word.confidence] for word in self.words]
        return {
            "text": self.text,
            "language": self.language,
            "words": words,
            "avg_logprob": self.avg_logprob,
            "no_speech_prob": self.no_speech_prob,
            "compression_ratio": self.compression_ratio,
            "temperature": self.temperature,
        }


def model_message(model: Model) -> dict[str, Any]:
    """A model for the message; `Model(**...)` reads it."""
    return asdict(model)
