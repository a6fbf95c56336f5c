"""The interface between the transcribe link and speech engines.

A link names a `Model`, sets the parameters (`Listening`), passes the channels of a call, and gets a
result (`Heard`) for each channel. One engine runs in the worker process (whisper.py), one uses a
transcriber process that all workers share (conserver.media.speech.client), and one uses a server
elsewhere (conserver.media.speech.remote).

An engine raises `errors.Retry` for conditions that may pass (memory, an unavailable GPU, missing
files of a model), `errors.Rejected` for sound that it can never process, and any other exception
for a failed attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from conserver.media.transcription.samples import Samples


@dataclass(frozen=True, slots=True)
class Model:
    """A model and its device. Equal values share one loaded model per process.

    Attributes:
        name: a folder with a converted model, a size such as "small", or a hub id "owner/name".
        engine: the library that computes it. For "onnx" (onnx-asr) `name` must be a folder.
        device: "auto" uses a GPU if there is one.
        compute_type: "auto" means float16 on a GPU and int8 on a CPU, if they support it.
        cpu_threads: 0 means one per core, at most 4.
        local_files_only: never access the network.
        cache_dir: the folder of models named by size or id; None means the hub's default.
        model_type: for "onnx", the kind of model; None reads it from the folder's config.json.
        quantization: for "onnx", which of the folder's files, such as "int8"; None means the files
            without quantization.
    """

    name: str
    engine: Literal["whisper", "onnx"] = "whisper"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = 0
    compute_type: str = "auto"
    cpu_threads: int = 0
    local_files_only: bool = True
    cache_dir: str | None = None
    model_type: str | None = None
    quantization: str | None = None


@dataclass(frozen=True, slots=True)
class Listening:
    """The parameters of a transcription. The defaults are meant for telephone calls.

    Attributes:
        language: code such as "en"; None detects it, once per call.
        translate: write English, whatever language is spoken.
        multilingual: detect the language repeatedly within a channel.
        temperatures: the first is 0, which is deterministic, or higher; the next ones are used in
            order for text that looks wrong.
        prompt, hotwords: text that makes the model prefer certain names and spellings.
        words: also determine the times of single words.
        channels_apart: never pass speech of two channels to the model in one window.
        vad: skip parts without speech, by a voice activity detector; pauses shorter than
            `vad_pause_ms` are kept.
    """

    language: str | None = None
    translate: bool = False
    multilingual: bool = False
    beam_size: int = 5
    temperatures: tuple[float, ...] = (0.0, 0.4, 0.8)
    prompt: str | None = None
    hotwords: str | None = None
    words: bool = True
    channels_apart: bool = False
    vad: bool = True
    vad_threshold: float = 0.5
    vad_pause_ms: int = 500


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its punctuation; times in seconds from the start of the recording.

    `text` includes the white space before the word, so that joining words gives the segment's text
    in every script.
    """

    start_s: float
    end_s: float
    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the speech; times in seconds from the start, and the model's scores.

    An engine that distinguishes the voices on one channel sets `speaker` to a name of its own, the
    same name for the same voice in the whole call. If the channel belongs to one party, the result
    names the party instead.
    """

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0
    temperature: float = 0.0
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """The transcription of one channel, in order; without segments if nobody spoke.

    `language` is None if nobody spoke and no language was configured.
    """

    segments: tuple[Segment, ...]
    language: str | None
    language_confidence: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """The engine, for documentation in the results."""

    provider: str  # The kind of model, lower case: "whisper".
    product: str  # The software and its version: "faster-whisper 1.2.1".
    model: str
    device: str
    compute_type: str


@dataclass(frozen=True, slots=True)
class CallHeard:
    """The result of a call: one `Heard` per channel, and the engine's identity."""

    identity: Identity
    channels: tuple[Heard, ...]


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Following:
    """How the caller follows the work on one call.

    Attributes:
        pulse: called about once a second while waiting, and between windows. An exception that it
            raises (cancelled, out of time) ends the work and reaches the caller.
        progress: called with the seconds of speech that are done, and with the total.
        kept: the value that was last passed to `keep` for this call, maybe by another process. The
            engine does not compute those parts again.
        keep: called every few minutes of a long call with the results so far (plain JSON). None if
            nothing can be kept.
        heard: called with the segments of each channel so far, and the second before which all
            segments are complete. None if nobody wants the text before the end.
        throttle: called if a server refuses all calls for a time, with that time in seconds.
    """

    pulse: Callable[[], None]
    progress: Callable[[float, float], None] = _nothing
    kept: Mapping[str, Any] | None = None
    keep: Callable[[dict[str, Any]], None] | None = None
    heard: Callable[[Sequence[Sequence[Segment]], float], None] | None = None
    throttle: Callable[[float], None] = _nothing


class Transcriber(Protocol):
    """A loaded model. Thread-safe."""

    def transcribe(
        self, channels: Sequence[Samples], listening: Listening, following: Following
    ) -> CallHeard:
        """Transcribe all channels of a call.

        Raises:
            Retry: the engine is not available now.
            Rejected: it can never transcribe this recording.
        """


class OpenTranscriber(Protocol):
    """Returns the transcriber of a model. Loads it at the first call and shares it afterwards."""

    def __call__(self, model: Model) -> Transcriber:
        """Raises Retry if the model cannot be loaded now."""
