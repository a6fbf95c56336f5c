"""Computes batches with onnx-asr: NeMo's Parakeet and Canary, GigaAM, Kaldi, T-One, Whisper.

1. These models take samples and make their own spectrograms. A batch is one call of `recognize`
   with all its windows, in one pass, without beams, prompts or other temperatures.
2. The library gives the start of each token, and tokens.py makes words of the tokens. For Whisper
   and Canary it gives no times; then a window has only text.
3. onnxruntime's errors have classes of their own; they are raised as RuntimeError, which lanes
   expect.

Any number of threads may use a model at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import SequenceMatcher
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from conserver.media.speech.tokens import Token, words_of
from conserver.media.speech.windows import FRAMES_PER_S, Answer, ModelInfo, WindowWord
from conserver.media.transcription import onnx_models
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import Identity, Model
from conserver.media.transcription.whisper import loading_errors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Sound = npt.NDArray[np.int16]

WINDOW_S = 20
"""Most of these models were trained with sound of up to 20 or 30 s."""

_SOUND_S_MIN = 0.5  # Shorter sound has too few frames for some models; silence is added.
_CANARY_WRONG_MAX = 6
_NO_TIMES = "the model tells no times: words have none, segments those of the windows of speech"
_NO_SCORES = "the model tells no scores: the confidences are not measured"


class OnnxBatches:
    """A loaded model that computes batches."""

    def __init__(self, model: Model, *, workers: int, threads: int, ahead: int) -> None:
        """Load the model and warm it up.

        Args:
            workers: how many lanes will call it at once; they share the weights.
            threads: CPU threads for each lane.
            ahead: for `ModelInfo`.

        Raises:
            Retry: the model cannot be loaded now.
        """
        with loading_errors(model), _errors():
            found = onnx_models.find(model)
            self._model, device = _load(found, model, threads)
            self._first = (found.languages or ("",))[0]
            (first,) = self._recognize([_noise()], self._first)
            self._canary = str(first.text)
        timed = first.timestamps is not None
        scored = first.logprobs is not None
        identity = Identity(
            provider=found.model_type.partition("-")[0],
            product=f"onnx-asr {version('onnx-asr')}",
            model=found.folder.name or model.name,
            device=device,
            compute_type=model.quantization or "default",
        )
        self.info = ModelInfo(
            identity,
            bands=0,
            frames=WINDOW_S * FRAMES_PER_S,
            languages=found.languages,
            aligns=timed,
            ahead=ahead,
            detects=False,
            warnings=(() if timed else (_NO_TIMES,)) + (() if scored else (_NO_SCORES,)),
        )

    def hear(
        self, sounds: Sequence[Sound], languages: Sequence[str], *, words: bool
    ) -> list[Answer]:
        """The answers to some windows.

        Args:
            languages: of each window; with "" the model chooses.
            words: whether the times of words are wanted.

        Raises:
            RuntimeError: computing failed, or memory is full (see `is_out_of_memory`).
        """
        assert len(languages) == len(sounds)
        answers: list[Answer] = [Answer("", "")] * len(sounds)
        told = list(languages) if self.info.languages else [""] * len(sounds)
        for language in sorted(set(told)):
            rows = [row for row, one in enumerate(told) if one == language]
            with _errors():
                results = self._recognize([sounds[row] for row in rows], language)
            assert len(results) == len(rows)
            for row, result in zip(rows, results, strict=True):
                length_s = len(sounds[row]) / SAMPLE_RATE_HZ
                answer = _answer(result, languages[row], length_s)
                answers[row] = answer if words else replace(answer, words=())
        return answers

    def is_sane(self) -> bool:
        """Whether a fixed input still gives the same tokens as at first (the canary)."""
        with _errors():
            (result,) = self._recognize([_noise()], self._first)
        matcher = SequenceMatcher(None, self._canary, str(result.text), autojunk=False)
        alike = sum(block.size for block in matcher.get_matching_blocks())
        return max(len(self._canary), len(result.text)) - alike <= _CANARY_WRONG_MAX

    def _recognize(self, sounds: Sequence[Sound], language: str) -> list[Any]:
        import numpy as np

        shortest = round(_SOUND_S_MIN * SAMPLE_RATE_HZ)
        waves = [
            np.pad(sound.astype(np.float32) / 32768, (0, max(0, shortest - len(sound))))
            for sound in sounds
        ]
        return list(self._model.recognize(waves, language=language or None))


def _load(found: onnx_models.Found, model: Model, threads: int) -> tuple[Any, str]:
    """The library's model, and the device that it really uses."""
    import onnx_asr
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Otherwise onnxruntime's waiting threads would spin on the cores that workers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    providers: list[Any] = ["CPUExecutionProvider"]
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if model.device != "cpu" and has_cuda:
        onnxruntime.preload_dlls()  # From NVIDIA's Python packages, if those are installed.
        cuda = {
            "device_id": model.device_index,
            "arena_extend_strategy": "kSameAsRequested",
            # An exhaustive search for the fastest kernel would run again for each length of sound.
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    loaded = onnx_asr.load_model(
        found.model_type,
        found.folder,
        quantization=model.quantization,
        sess_options=options,
        providers=providers,
    ).with_timestamps()
    used = {
        session.get_providers()[0]
        for session in vars(loaded.asr).values()
        if isinstance(session, onnxruntime.InferenceSession)
    }
    device = "cuda" if used == {"CUDAExecutionProvider"} else "cpu"
    if model.device == "cuda" and device == "cpu":
        missing = "the package onnxruntime-gpu, in the place of onnxruntime"
        raise RuntimeError(
            "onnxruntime cannot use a GPU here: it needs "
            + ("a driver, CUDA and cuDNN that it finds" if has_cuda else missing)
        )
    return loaded, device


def _answer(result: Any, language: str, length_s: float) -> Answer:
    scores = list(result.logprobs or ())
    words: tuple[WindowWord, ...] = ()
    if result.timestamps:
        tokens = map(Token, result.tokens, result.timestamps, scores or [0.0] * len(result.tokens))
        words = words_of(list(tokens), length_s)
    return Answer(
        text="".join(word.text for word in words).strip() or result.text.strip(),
        language=language,
        words=words,
        avg_logprob=min(0.0, sum(scores) / len(scores)) if scores else 0.0,
    )


def _noise() -> Sound:
    """The canary's input: always the same noise."""
    import numpy as np

    draw = np.random.default_rng(20261130)
    seconds = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    chirp = np.sin(2 * np.pi * (200 + 900 * seconds) * seconds)
    wave = 0.5 * chirp * (np.sin(9 * seconds) > 0) + 0.05 * draw.standard_normal(len(seconds))
    return (np.clip(wave, -1, 1) * 32767).astype(np.int16)


@contextmanager
def _errors() -> Iterator[None]:
    """Convert onnxruntime's errors, and those of an unsuitable model, to RuntimeError."""
    try:
        yield
    except (AssertionError, LookupError, TypeError, AttributeError) as error:
        raise RuntimeError(f"its files do not fit together: {error!r}") from error
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        raise RuntimeError(" ".join(str(error).split())) from error
