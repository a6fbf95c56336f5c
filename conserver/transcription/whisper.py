"""The first engine: faster-whisper (CTranslate2) in this process.

1. `prepare` imports the libraries and makes sure that the model is there. It may run before a
   fork: it starts no thread, opens no socket and touches no GPU.
2. `shared` loads a model at its first use, once per process and `Model`, and shares it from then
   on among the threads. Never before a fork: CTranslate2's objects do not survive one.
3. Listening is lazy in faster-whisper (the work happens while its result is read), so the lock of
   a model is held until a stretch has been read to its end.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conserver.errors import ConfigError, Problem, Retry
from conserver.transcription import voice
from conserver.transcription.audio import SAMPLE_RATE_HZ
from conserver.transcription.engine import Heard, Identity, Listening, Model, Segment, Word
from conserver.transcription.models import ModelMissingError, check_name, find_model

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

    from conserver.transcription.audio import Samples

# The codes that multilingual Whisper models know.
LANGUAGES = frozenset(
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he "
    "hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne "
    "nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk "
    "ur uz vi yi yo yue zh".split()
)

_CPU_THREADS_MAX = 4  # More threads for one call hardly make it faster.
_RETRY_LOAD_S = 60.0
_RETRY_MEMORY_S = 30.0
_PULSE_S = 1.0

_loaded: dict[tuple[int, Model], WhisperTranscriber] = {}
_loading = threading.Lock()


def prepare(model: Model) -> None:
    """Import what listening needs, and check that the model is there.

    Raises:
        ImportError: a package is not installed, or cannot be loaded here.
        ConfigError: the model's files are missing.
    """
    _import_libraries()
    try:
        if model.local_files_only:
            find_model(model)
        else:
            check_name(model)
    except ModelMissingError as error:
        raise ConfigError([Problem("model", str(error))]) from error


def shared(model: Model) -> WhisperTranscriber:
    """The process's one transcriber for this model, loaded if this is the first call.

    Raises:
        Retry: it cannot be loaded now. A GPU or a file that is away is no fault of the vCon.
    """
    # The process id is part of the key so that a child never uses, nor frees, what its parent made.
    key = (os.getpid(), model)
    with _loading:
        if key not in _loaded:
            _loaded[key] = _load(model)
        return _loaded[key]


class WhisperTranscriber:
    """A loaded model. `engine.Transcriber` says what it promises."""

    def __init__(self, model: WhisperModel, identity: Identity) -> None:
        self.identity = identity
        self._model = model
        self._turn = threading.Lock()

    def transcribe(
        self, samples: Samples, listening: Listening, pulse: Callable[[], None]
    ) -> Heard:
        """Understand one channel, stretch by stretch."""
        language = listening.language
        confidence = 1.0 if language else 0.0
        warnings: list[str] = []
        if language and language not in self._model.supported_languages:
            warnings.append(f"the model knows no {language!r}: it heard the channel as English")
            language = "en"
        asked = language
        segments: list[Segment] = []
        for start, end in voice.stretches(voice.levels(samples), len(samples)):
            pulse()
            with self._taking_turns(pulse), _memory_errors():
                found, info = self._listen(samples[start:end], asked, listening)
                offset_s = start / SAMPLE_RATE_HZ
                new = [_segment(segment, offset_s) for segment in _pulsed(found, pulse)]
            segments += new
            if new and language is None:
                language, confidence = info.language, float(info.language_probability)
                # One language per channel: a later stretch of few words would be guessed worse.
                asked = None if listening.multilingual else language
        if listening.translate and language not in (None, "en"):
            warnings.append(f"translated from {language!r}")
            language = "en"
        return Heard(tuple(segments), language, confidence, tuple(warnings))

    def _listen(self, samples: Samples, language: str | None, how: Listening) -> tuple[Any, Any]:
        import numpy as np

        vad = {"threshold": how.vad_threshold, "min_silence_duration_ms": how.vad_pause_ms}
        found, info = self._model.transcribe(
            samples.astype(np.float32) / 32768,
            language=language,
            task="translate" if how.translate else "transcribe",
            multilingual=how.multilingual,
            beam_size=how.beam_size,
            temperature=list(how.temperatures),
            # With it, one wrong sentence of a call leads all that follow astray.
            condition_on_previous_text=False,
            initial_prompt=how.prompt,
            hotwords=how.hotwords,
            word_timestamps=how.words,
            vad_filter=how.vad,
            vad_parameters=vad if how.vad else None,
        )
        return found, info

    @contextmanager
    def _taking_turns(self, pulse: Callable[[], None]) -> Iterator[None]:
        while not self._turn.acquire(timeout=_PULSE_S):
            pulse()
        try:
            yield
        finally:
            self._turn.release()


def _import_libraries() -> None:
    # numpy's OpenBLAS starts its threads when it is imported. The supervisor, which may import it
    # for its workers, is to have none; and the workers share the cores among themselves anyway.
    if "numpy" not in sys.modules:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import av  # noqa: F401  (imported here for all children to share)
    import faster_whisper  # noqa: F401


def _load(model: Model) -> WhisperTranscriber:
    _import_libraries()
    import ctranslate2
    import faster_whisper
    from tqdm import tqdm  # type: ignore[import-untyped]

    # Its default lock is one between processes, which no progress bar here needs, and which starts
    # a helper process per worker where the start method is not fork.
    tqdm.set_lock(threading.RLock())
    logging.getLogger("faster_whisper").setLevel(logging.ERROR)  # It tells every call's duration.
    try:
        folder = find_model(model)
        device = model.device
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() > 0 else "cpu"
        if device == "cuda":
            load_cublas()
        compute_type = _compute_type(model, device)
        loaded = faster_whisper.WhisperModel(
            folder,
            device=device,
            device_index=model.device_index,
            compute_type=compute_type,
            cpu_threads=model.cpu_threads or _cpu_threads(),
            local_files_only=True,  # The folder is complete; its tokenizer is not to be looked up.
        )
        _warm_up(loaded)
    except (ModelMissingError, RuntimeError, ValueError, OSError) as error:
        raise Retry(
            _RETRY_LOAD_S, f"the model {model.name} cannot be loaded on {model.device}: {error}"
        ) from error
    identity = Identity(
        provider="whisper",
        product=f"faster-whisper {version('faster-whisper')}",
        model=Path(model.name).name or model.name,
        device=device,
        compute_type=loaded.model.compute_type,
    )
    return WhisperTranscriber(loaded, identity)


def _warm_up(model: WhisperModel) -> None:
    """Run the encoder once: a CUDA library that is missing shows now, not in the first call."""
    import numpy as np

    model.encode(np.zeros((model.model.n_mels, 3000), dtype=np.float32))


def _compute_type(model: Model, device: str) -> str:
    import ctranslate2

    if model.compute_type != "auto":
        return model.compute_type
    supported = ctranslate2.get_supported_compute_types(device, model.device_index)
    wishes = ("float16", "int8_float16", "int8") if device == "cuda" else ("int8",)
    return next((wish for wish in wishes if wish in supported), "default")


def _cpu_threads() -> int:
    return min(_CPU_THREADS_MAX, len(os.sched_getaffinity(0)))


def load_cublas() -> None:
    """Load the CUDA library that CTranslate2 opens by name, if it came as a Python package.

    The loader does not look into packages; once loaded from there, it is found by its name. Where
    there is no such package, the system's library is taken, as always.
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


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Memory that is full now may be free soon: other calls end, another process's model goes."""
    try:
        yield
    except MemoryError as error:
        raise Retry(_RETRY_MEMORY_S, "out of memory while transcribing") from error
    except RuntimeError as error:
        text = str(error).lower()
        if "out of memory" in text or "alloc_failed" in text or "bad_alloc" in text:
            raise Retry(_RETRY_MEMORY_S, f"out of memory while transcribing: {error}") from error
        raise


def _segment(segment: Any, offset_s: float) -> Segment:
    # Times come as numpy's floats at times, which JSON writers refuse: hence all the float().
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
