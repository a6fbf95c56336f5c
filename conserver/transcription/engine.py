"""The seam between the transcribe link and whatever understands speech.

A link sees only this: it names a `Model`, says how to listen (`Listening`), hands over one channel
of samples at a time and gets back what was `Heard`. The first engine behind it runs in the worker
process (whisper.py); one that talks to a process of its own has the same face.

How an engine fails: `errors.Retry` for what may be over later (memory, a GPU that is away, a model
that is not there yet), `errors.Rejected` for sound that it will never take, any other exception
for one failed attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from conserver.transcription.audio import Samples


@dataclass(frozen=True, slots=True)
class Model:
    """Which model runs where. Equal values share one loaded model in a process.

    Attributes:
        name: a folder with a converted model, a size such as "small", or a hub id "owner/name".
        device: "auto" takes a GPU where there is one.
        compute_type: "auto" means float16 on a GPU and int8 on a CPU, as far as they can.
        cpu_threads: 0 means one per core, at most 4.
        local_files_only: never look anything up in the network.
        cache_dir: where models named by size or id are kept; None means the hub's default.
    """

    name: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = 0
    compute_type: str = "auto"
    cpu_threads: int = 0
    local_files_only: bool = True
    cache_dir: str | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """How to listen to a channel. The defaults are meant for telephone calls.

    Attributes:
        language: code such as "en"; None lets the model find out, once per channel.
        translate: write English, whatever is spoken.
        multilingual: find the language out again and again within a channel.
        temperatures: 0 is exact; the later ones are tried only where the text looks wrong.
        prompt, hotwords: text that leads the model to names and spellings.
        words: find the times of single words, too.
        vad: leave out what a voice detector takes for no speech; pauses shorter than
            `vad_pause_ms` stay in.
    """

    language: str | None = None
    translate: bool = False
    multilingual: bool = False
    beam_size: int = 5
    temperatures: tuple[float, ...] = (0.0, 0.4, 0.8)
    prompt: str | None = None
    hotwords: str | None = None
    words: bool = True
    vad: bool = True
    vad_threshold: float = 0.5
    vad_pause_ms: int = 500


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its punctuation: times in seconds from the start of the recording.

    `text` keeps the white space before the word, so that joined words give the segment's text in
    every script.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech: times in seconds from the start, what the model thinks of its text."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """All that an engine understood on one channel, in order; no segments if nobody spoke.

    `language` is None where nothing was spoken and none was given.
    """

    segments: tuple[Segment, ...]
    language: str | None
    language_confidence: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What did the work, as the results tell it."""

    provider: str  # The kind of model, lower case: "whisper".
    product: str  # The software and its version: "faster-whisper 1.2.1".
    model: str
    device: str
    compute_type: str


class Transcriber(Protocol):
    """A model that is ready to listen. Safe to use from several threads at once."""

    identity: Identity

    def transcribe(
        self, samples: Samples, listening: Listening, pulse: Callable[[], None]
    ) -> Heard:
        """Understand one channel.

        `pulse` is called about once per half a minute of speech, and once a second while other
        threads keep the model busy; what it raises ends the work and reaches the caller.

        Raises:
            Retry: the engine cannot work now.
        """


class OpenTranscriber(Protocol):
    """How a link gets hold of an engine: loaded at the first call, shared from then on."""

    def __call__(self, model: Model) -> Transcriber:
        """Raises Retry if the model cannot be had now."""
