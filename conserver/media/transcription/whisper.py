"""The engine that runs faster-whisper (CTranslate2) in this process.

1. `prepare` imports the libraries and checks that the model exists. It may run before a fork: it
   starts no thread, opens no socket and does not use a GPU.
2. `shared` loads a model at its first use, once per process and `Model`, and shares it among the
   threads. It must not run before a fork, because CTranslate2's objects do not survive a fork.
3. faster-whisper works while its result is iterated, so the lock of a model is held until the
   result of one part of the channel has been read completely.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from conserver.errors import ConfigError, Problem, Retry
from conserver.media.transcription import detector, voice
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import (
    CallHeard,
    Following,
    Heard,
    Identity,
    Listening,
    Model,
    Segment,
    Word,
)
from conserver.media.transcription.in_process import OnePerProcess, Turns, cpu_threads
from conserver.media.transcription.models import ModelMissingError, check_name, find_model

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

    from conserver.media.transcription.samples import Block, Samples

_RETRY_LOAD_S = 60.0


def prepare(model: Model) -> None:
    """Import the libraries, and check that the model exists.

    Raises:
        ImportError: a package is not installed or cannot be loaded.
        ConfigError: the model's files are missing.
    """
    import_libraries()
    detector.load()
    try:
        if model.local_files_only:
            find_model(model)
        else:
            check_name(model)
    except ModelMissingError as error:
        raise ConfigError([Problem("model", str(error))]) from error


class WhisperTranscriber:
    """A loaded model; implements `engine.Transcriber`."""

    def __init__(self, model: WhisperModel, identity: Identity) -> None:
        self.identity = identity
        self._model = model
        self._turns = Turns()

    def transcribe(
        self, channels: Sequence[Samples], listening: Listening, following: Following
    ) -> CallHeard:
        """Transcribe a call, channel by channel."""
        total_s = sum(len(samples) for samples in channels) / SAMPLE_RATE_HZ
        heard: list[Heard] = []
        done_s = 0.0
        for samples in channels:
            last = len(heard) == len(channels) - 1
            before = [one.segments for one in heard] if last else None
            heard.append(self._channel(samples, listening, following, before))
            done_s += len(samples) / SAMPLE_RATE_HZ
            following.progress(done_s, total_s)
        return CallHeard(self.identity, tuple(heard))

    def _channel(
        self,
        samples: Samples,
        listening: Listening,
        following: Following,
        before: Sequence[Sequence[Segment]] | None,
    ) -> Heard:
        """Transcribe one channel, part by part.

        Args:
            before: for the last channel of the call, the segments of all channels before it.
        """
        pulse = following.pulse
        language = listening.language
        confidence = 1.0 if language else 0.0
        warnings: list[str] = []
        if language and language not in self._model.supported_languages:
            warnings.append(f"the model knows no {language!r}: it heard the channel as English")
            language = "en"
        asked = language
        segments: list[Segment] = []
        for start, end in voice.stretches(voice.levels(samples), len(samples)):
            with self._turns.hold(pulse):
                found, info = self._listen(samples[start:end], asked, listening)
                offset_s = start / SAMPLE_RATE_HZ
                new = [_segment(segment, offset_s) for segment in _pulsed(found, pulse)]
            segments += new
            if before is not None and following.heard:
                following.heard([*before, segments], end / SAMPLE_RATE_HZ)
            if new and language is None:
                language, confidence = info.language, float(info.language_probability)
                # Keep the language of the first part: a later part may have too few words.
                asked = None if listening.multilingual else language
        if listening.translate and language not in (None, "en"):
            warnings.append(f"translated from {language!r}")
            language = "en"
        return Heard(tuple(segments), language, confidence, tuple(warnings))

    def _listen(self, samples: Block, language: str | None, how: Listening) -> tuple[Any, Any]:
        import numpy as np

        vad = {"threshold": how.vad_threshold, "min_silence_duration_ms": how.vad_pause_ms}
        found, info = self._model.transcribe(
            samples.astype(np.float32) / 32768,
            language=language,
            task="translate" if how.translate else "transcribe",
            multilingual=how.multilingual,
            beam_size=how.beam_size,
            temperature=list(how.temperatures),
            # If True, one wrong sentence would spoil those after it.
            condition_on_previous_text=False,
            initial_prompt=how.prompt,
            hotwords=how.hotwords,
            word_timestamps=how.words,
            vad_filter=how.vad,
            vad_parameters=vad if how.vad else None,
        )
        return found, info


def import_libraries() -> None:
    """Import what decoding, loading and transcribing need. Starts no thread."""
    _keep_numpy_to_one_thread()
    # Imported before the fork, so that children share their memory; numpy's two parts, which
    # spectrograms and medians use, would be imported by each worker in its first call.
    import av  # noqa: F401
    import faster_whisper  # noqa: F401
    import numpy.fft
    import numpy.ma  # noqa: F401


def _import_faster_whisper() -> None:
    """Import it without PyAV, which it needs for files alone: a transcriber decodes none."""
    _keep_numpy_to_one_thread()
    if "av" not in sys.modules:
        sys.modules["av"] = _AtFirstUse("av")
    try:
        import faster_whisper  # noqa: F401
    finally:
        if isinstance(sys.modules.get("av"), _AtFirstUse):
            del sys.modules["av"]


class _AtFirstUse(ModuleType):
    """Stands for a module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        # As long as this object is what an import gives, it has nothing to give.
        if name.startswith("__") or sys.modules.get(self.__name__) is self:
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _keep_numpy_to_one_thread() -> None:
    # OpenBLAS starts threads when numpy is imported. The supervisor, which may import numpy before
    # it forks workers, must not have threads. In a worker, one thread is enough.
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _load(model: Model) -> WhisperTranscriber:
    loaded, identity = load(model, threads=cpu_threads(model))
    with loading_errors(model):
        _warm_up(loaded)
    return WhisperTranscriber(loaded, identity)


shared = OnePerProcess(_load).get
"""The process's transcriber of a model. Raises Retry if it cannot be loaded now: a missing GPU or
file must not fail the item.
"""


def load(model: Model, *, threads: int, workers: int = 1) -> tuple[WhisperModel, Identity]:
    """A model, loaded and not yet used.

    Args:
        threads: CPU threads for each batch.
        workers: how many batches CTranslate2 computes at once; they share the weights.

    Raises:
        Retry: it cannot be loaded now.
    """
    _import_faster_whisper()
    import ctranslate2
    import faster_whisper
    from tqdm import tqdm  # type: ignore[import-untyped]

    # tqdm's default lock works between processes. It is not needed here, and with start methods
    # other than fork it would start a helper process per worker.
    tqdm.set_lock(threading.RLock())
    logging.getLogger("faster_whisper").setLevel(logging.ERROR)  # It logs every call's duration.
    with loading_errors(model):
        folder = find_model(model)
        device = model.device
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() > 0 else "cpu"
        if device == "cuda":
            load_cublas()
        loaded = faster_whisper.WhisperModel(
            folder,
            device=device,
            device_index=model.device_index,
            compute_type=_compute_type(model, device),
            cpu_threads=threads,
            num_workers=workers,
            local_files_only=True,  # The folder is complete. Never ask the hub.
        )
    identity = Identity(
        provider="whisper",
        product=f"faster-whisper {version('faster-whisper')}",
        model=Path(model.name).name or model.name,
        device=device,
        compute_type=loaded.model.compute_type,
    )
    return loaded, identity


@contextmanager
def loading_errors(model: Model) -> Iterator[None]:
    """Convert errors of loading and warming up to a Retry that names the model."""
    try:
        yield
    except (ModelMissingError, RuntimeError, ValueError, OSError) as error:
        raise Retry(
            _RETRY_LOAD_S, f"the model {model.name} cannot be loaded on {model.device}: {error}"
        ) from error


def _warm_up(model: WhisperModel) -> None:
    """Run the encoder once, so that a missing CUDA library is found before the first call."""
    import numpy as np

    model.encode(np.zeros((model.model.n_mels, 3000), dtype=np.float32))


def _compute_type(model: Model, device: str) -> str:
    import ctranslate2

    if model.compute_type != "auto":
        return model.compute_type
    supported = ctranslate2.get_supported_compute_types(device, model.device_index)
    wishes = ("float16", "int8_float16", "int8") if device == "cuda" else ("int8",)
    return next((wish for wish in wishes if wish in supported), "default")


def load_cublas() -> None:
    """Load cuBLAS from its Python package, if that is installed.

    CTranslate2 opens the library by name. The dynamic loader does not search Python packages, but
    it finds a library that is already loaded. Without the package it uses the system's library.
    """
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root, "cublas", "lib")
        for name in ("libcublasLt.so.12", "libcublas.so.12"):
            if (folder / name).is_file():
                ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)


def _pulsed(found: Iterable[Any], pulse: Callable[[], None]) -> Iterator[Any]:
    for segment in found:
        yield segment
        pulse()


def _segment(segment: Any, offset_s: float) -> Segment:
    # Times may be numpy floats, which orjson refuses, hence float().
    words = tuple(
        Word(
            start_s=float(word.start) + offset_s,
            end_s=float(word.end) + offset_s,
            text=word.word,
            confidence=float(word.probability),
        )
        for word in segment.words or ()
    )
    return Segment(
        start_s=float(segment.start) + offset_s,
        end_s=float(segment.end) + offset_s,
        text=segment.text.strip(),
        words=words,
        avg_logprob=float(segment.avg_logprob),
        no_speech_prob=float(segment.no_speech_prob),
        compression_ratio=float(segment.compression_ratio),
        temperature=float(segment.temperature or 0.0),
    )
