"""Finds the files of a model for onnx-asr: Parakeet, Canary, GigaAM, Kaldi, T-One, Whisper.

A model is a folder. The option `model_type` or the folder's config.json says which kind it is.
Nothing is ever downloaded. The table of file names is a copy of onnx-asr's: importing onnx-asr
starts a thread, and the supervisor looks for models before it forks.

Reference: https://istupakov.github.io/onnx-asr/
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conserver.errors import ConfigError, Problem
from conserver.media.transcription.engine import Listening, Model
from conserver.media.transcription.languages import LANGUAGES
from conserver.media.transcription.models import ModelMissingError
from conserver.media.transcription.whisper import import_libraries

_NEMO_CTC = ("model{q}.onnx", "vocab.txt")
_NEMO_RNNT = ("encoder-model{q}.onnx", "decoder_joint-model{q}.onnx", "vocab.txt")
_NEMO_AED = ("encoder-model{q}.onnx", "decoder-model{q}.onnx", "vocab.txt")
_GIGAAM_CTC = ("v?_ctc{q}.onnx", "v?_vocab.txt")
_GIGAAM_RNNT = (
    "v?_rnnt_encoder{q}.onnx", "v?_rnnt_decoder{q}.onnx", "v?_rnnt_joint{q}.onnx", "v?_vocab.txt",
)  # fmt: skip
_GIGAAM_CTC_OF_TEXT = ("v3_e2e_ctc{q}.onnx", "v3_e2e_ctc_vocab.txt")
_GIGAAM_RNNT_OF_TEXT = (
    "v3_e2e_rnnt_encoder{q}.onnx", "v3_e2e_rnnt_decoder{q}.onnx", "v3_e2e_rnnt_joint{q}.onnx",
    "v3_e2e_rnnt_vocab.txt",
)  # fmt: skip
_GIGAAM_MULTILINGUAL = ("multilingual*_ctc{q}.onnx", "multilingual_vocab.txt")
_KALDI = ("*/encoder{q}.onnx", "*/decoder{q}.onnx", "*/joiner{q}.onnx", "*/tokens.txt")
_T_ONE = ("model{q}.onnx",)
_WHISPER_ORT = ("whisper-*_beamsearch{q}.onnx", "vocab.json", "added_tokens.json")
_WHISPER = (
    "**/encoder_model{q}.onnx", "**/decoder_model_merged{q}.onnx", "vocab.json",
    "added_tokens.json",
)  # fmt: skip

FILES: dict[str, tuple[str, ...]] = {
    "nemo-conformer-ctc": _NEMO_CTC,
    "nemo-conformer-rnnt": _NEMO_RNNT,
    "nemo-conformer-tdt": _NEMO_RNNT,
    "nemo-conformer-aed": _NEMO_AED,
    "nemo-fastconformer-ru-ctc": _NEMO_CTC,
    "nemo-fastconformer-ru-rnnt": _NEMO_RNNT,
    "nemo-parakeet-ctc-0.6b": _NEMO_CTC,
    "nemo-parakeet-rnnt-0.6b": _NEMO_RNNT,
    "nemo-parakeet-tdt-0.6b-v2": _NEMO_RNNT,
    "nemo-parakeet-tdt-0.6b-v3": _NEMO_RNNT,
    "nemo-canary-1b-v2": _NEMO_AED,
    "gigaam-v2-ctc": _GIGAAM_CTC,
    "gigaam-v2-rnnt": _GIGAAM_RNNT,
    "gigaam-v3-ctc": _GIGAAM_CTC,
    "gigaam-v3-rnnt": _GIGAAM_RNNT,
    "gigaam-v3-e2e-ctc": _GIGAAM_CTC_OF_TEXT,
    "gigaam-v3-e2e-rnnt": _GIGAAM_RNNT_OF_TEXT,
    "gigaam-multilingual-ctc": _GIGAAM_MULTILINGUAL,
    "gigaam-multilingual-large-ctc": _GIGAAM_MULTILINGUAL,
    "kaldi-rnnt": _KALDI,
    "vosk": _KALDI,
    "t-one-ctc": _T_ONE,
    "whisper-ort": _WHISPER_ORT,
    "whisper-base": _WHISPER_ORT,
    "whisper": _WHISPER,
}
"""Kind of model -> patterns of its files. `{q}` is the quantization, such as `?int8`, or ""."""

_TOLD_IN = {
    _NEMO_AED: "vocab.txt",
    _WHISPER: "added_tokens.json",
    _WHISPER_ORT: "added_tokens.json",
}
"""Kind of model -> the file with the tokens of its languages, for models that can be told one."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model on this machine.

    Attributes:
        languages: codes of the languages that the model can be told to write; empty if it cannot.
        guesses: whether such a model also detects the language itself.
    """

    folder: Path
    model_type: str
    files: tuple[Path, ...]
    languages: tuple[str, ...]
    guesses: bool

    @property
    def size_bytes(self) -> int:
        """The size of the weights. Large models have them in files beside the graphs."""
        beside = (path.parent.glob(f"{path.name}?data") for path in self.files)
        return sum(path.stat().st_size for path in [*self.files, *(p for ps in beside for p in ps)])


def find(model: Model) -> Found:
    """The files of a model.

    Raises:
        ModelMissingError: there is no such folder, its kind is unknown, or it lacks files.
    """
    folder = Path(model.name).expanduser()
    if not folder.is_dir():
        raise ModelMissingError(
            f"there is no folder {folder} (looked in {Path.cwd()}); a model for engine: onnx is a "
            "folder that was fetched beforehand"
        )
    model_type = model.model_type or _type_in_config(folder)
    if model_type not in FILES:
        raise ModelMissingError(
            f"{folder} has a model of the type {model_type!r}, which is none of "
            f"{', '.join(sorted(FILES))}; `model_type` overrules config.json"
        )
    patterns = FILES[model_type]
    suffix = f"?{model.quantization}" if model.quantization else ""
    files = tuple(_one(folder, pattern.format(q=suffix), model_type) for pattern in patterns)
    told_in = _TOLD_IN.get(patterns)
    languages = _languages(next(path for path in files if path.name == told_in)) if told_in else ()
    return Found(folder, model_type, files, languages, patterns is not _NEMO_AED)


def prepare(model: Model, listening: Listening) -> None:
    """Check that a model is complete and knows the configured language. Starts no thread.

    Raises:
        ImportError: a package is not installed.
        ConfigError: the model is unusable; `path` is the option at fault.
    """
    import_libraries()
    if importlib.util.find_spec("onnx_asr") is None:
        raise ModuleNotFoundError("No module named 'onnx_asr'", name="onnx_asr")
    try:
        found = find(model)
    except ModelMissingError as error:
        raise ConfigError([Problem("model", str(error))]) from error
    if not found.languages:
        return
    if listening.language is None and not found.guesses:
        message = "this model writes English unless it is told otherwise: name the language"
        raise ConfigError([Problem("language", message)])
    if listening.language and listening.language not in found.languages:
        known = ", ".join(found.languages)
        message = f"the model knows no {listening.language!r}; it knows {known}"
        raise ConfigError([Problem("language", message)])


def _type_in_config(folder: Path) -> str:
    path = folder / "config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelMissingError(
            f"{folder} has no config.json that names the `model_type`; set it as an option"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelMissingError(f"{path} cannot be read: {error}") from error
    model_type = said.get("model_type") if isinstance(said, dict) else None
    if not isinstance(model_type, str):
        raise ModelMissingError(f"{path} names no `model_type`; set it as an option")
    return model_type


def _one(folder: Path, pattern: str, model_type: str) -> Path:
    """The only file that matches the pattern, as .onnx or in onnxruntime's own format (.ort)."""
    found = list(folder.glob(pattern))
    if not found and pattern.endswith(".onnx"):
        found = list(folder.glob(pattern.removesuffix("onnx") + "ort"))
    if len(found) == 1 and found[0].is_file():
        return found[0]
    what = f"{folder} is no complete model of the type {model_type}"
    if found:
        names = ", ".join(sorted(path.name for path in found))
        raise ModelMissingError(f"{what}: {pattern} fits several files ({names})")
    there = sorted({path.name for path in folder.rglob("*.onnx")})
    hint = f"; it has {', '.join(there)}: does `quantization` name one of these?" if there else ""
    raise ModelMissingError(f"{what}: it lacks {pattern}{hint if '.onnx' in pattern else ''}")


def _languages(path: Path) -> tuple[str, ...]:
    """The languages among a model's tokens: `<|en|>`."""
    try:
        text = path.read_text(encoding="utf-8")
        tokens: Iterable[str]
        tokens = json.loads(text) if path.suffix == ".json" else map(_first, text.splitlines())
        codes = {token[2:-2] for token in tokens if token[:2] == "<|" and token[-2:] == "|>"}
    except (OSError, ValueError) as error:
        raise ModelMissingError(f"{path} cannot be read: {error}") from error
    return tuple(sorted(codes & LANGUAGES))


def _first(line: str) -> str:
    return line.partition(" ")[0]
