"""The protocol between worker and transcriber: windows, their options, and the answers.

A window is at most one input of the model (30 s with Whisper's own models), in shared memory (a
memfd): its log-mel spectrogram as float16 of the shape (bands, frames), 100 frames per second; or,
for a model without bands, its samples as int16, 160 per frame. The options of a window say how it
is decoded. Windows with equal `key` may be decoded in one batch, also of different calls.

One connection (SOCK_SEQPACKET, one JSON object per packet) carries one call:

    worker -> transcriber
        open    model, call            which model; answered by `info` once the model is loaded
        begin                          requests a slot; answered by `admitted`, in order of requests
        window  id, frames, options, suspicion, crowd, trace   with the memfd
        speak   ids, language          decode the windows for which `languages` was sent, in this
                                       language
    transcriber -> worker
        info      members of `ModelInfo`
        admitted
        started   ids, crowd           a batch with these windows has begun; it has `crowd` rows
        resting   ids, crowd           these windows wait again, for another temperature
        languages id, languages        the likely languages of a window that was sent without one
        answer    id, answer           members of `Answer`
        failed    reason, retry_s      the call cannot be transcribed now; try again after retry_s

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
        language: code such as "en". None: the transcriber answers with the likely languages, and
            decodes the window after a `speak`. "": the model chooses, and does not report it.
        each_language: decode each window in its own most likely language, without a `speak`.
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
        """These options as far as the model can follow them, and warnings about the others."""
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
        """The same options with this language."""
        return replace(self, language=language, each_language=False)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The data of a loaded model that a worker needs.

    Attributes:
        bands: mel bands of the model's input; 0 for a model that takes samples.
        frames: frames of the model's input: 3000 for 30 s.
        languages: the codes that the model knows: one code for an English-only model, none for a
            model that cannot be told a language.
        aligns: whether the model can give the times of words on this device.
        ahead: how many windows of a call may be under way at once.
        detects: whether the model can detect the language of a window.
        warnings: for every result of this model.
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
    """The transcription of a window. `text` is empty if nobody spoke."""

    text: str
    language: str
    words: tuple[WindowWord, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0
    temperature: float = 0.0

    @classmethod
    def load(cls, data: dict[str, Any]) -> Answer:
        """From the message, or from an answer that was kept in the vCon."""
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
