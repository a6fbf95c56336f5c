"""The options of the link transcribe that choose the engine and set its parameters.

If the configuration has an option that the engine cannot follow, it is refused. If a single vCon's
request has one, the recording is transcribed without it and the result has a warning; but a request
for a translation that the engine cannot make is rejected.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from conserver.errors import Rejected
from conserver.media.speech import remote
from conserver.media.transcription import onnx_models
from conserver.media.transcription.engine import Listening, Model
from conserver.media.transcription.languages import LANGUAGES
from conserver.media.transcription.models import ModelMissingError
from conserver.media.transcription.request import Request, Text

_OF_MODELS_HERE = (
    "engine", "model_type", "quantization", "device", "device_index", "compute_type",
    "cpu_threads", "local_files_only", "cache_dir", "beam_size", "channels_apart",
)  # fmt: skip
_OF_ONNX = ("model_type", "quantization")
_NOT_OF_ONNX = frozenset(
    "beam_size cache_dir compute_type hotwords local_files_only multilingual prompt temperature "
    "translate".split()
)


class EngineOptions(BaseModel):
    """The engine, its model and its parameters."""

    # pydantic reserves names that begin with `model_`, but `model_type` is onnx-asr's name.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field(min_length=1)
    engine: Literal["whisper", "onnx"] = "whisper"
    model_type: str | None = Field(default=None, min_length=1)
    quantization: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_]{1,40}$")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = Field(default=0, ge=0)
    compute_type: Literal[
        "auto", "default", "int8", "int8_float16", "int8_float32", "int8_bfloat16",
        "int16", "float16", "bfloat16", "float32",
    ] = "auto"  # fmt: skip
    cpu_threads: int = Field(default=0, ge=0, le=256)
    local_files_only: bool = True
    cache_dir: str | None = None
    server: remote.ServerOptions | None = None

    language: str | None = None
    translate: bool = False
    multilingual: bool = False
    prompt: Text | None = None
    hotwords: Text | None = None
    beam_size: int = Field(default=5, ge=1, le=20)
    temperature: tuple[float, ...] = (0.0, 0.4, 0.8)
    words: bool = True
    channels_apart: bool = False
    bleed: Literal["silence", "keep"] = "silence"
    vad: bool = True
    vad_threshold: float = Field(default=0.5, gt=0, lt=1)
    vad_pause_ms: int = Field(default=500, ge=0)

    @field_validator("language")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in LANGUAGES:
            raise ValueError(f"{value!r} is not one of {', '.join(sorted(LANGUAGES))}")
        return value

    @field_validator("temperature", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | float) else value

    @field_validator("temperature")
    @classmethod
    def _temperatures(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 <= one <= 1 for one in value):
            raise ValueError("one number, or a list of numbers to try in turn, each from 0 to 1")
        return value

    @model_validator(mode="after")
    def _here_or_there(self) -> Self:
        """Refuse options that have no effect if a server is configured, because it decides."""
        if self.server is not None:
            set_too = [name for name in _OF_MODELS_HERE if name in self.model_fields_set]
            if set_too:
                raise ValueError(f"with `server`, {', '.join(set_too)} cannot be chosen here")
        return self

    @model_validator(mode="after")
    def _as_the_engine_can(self) -> Self:
        """Refuse options that the engine cannot follow, instead of ignoring them silently."""
        if self.engine == "onnx":
            if beyond := self.beyond_the_engine():
                said = [f"engine: onnx has no {', '.join(beyond)}; engine: whisper has"]
                try:
                    onnx_models.find(self.which())
                except ModelMissingError as error:
                    # Report a missing model together with the wrong options, not only after them.
                    said.insert(0, str(error))
                raise ValueError("; and ".join(said))
        elif theirs := [name for name in _OF_ONNX if getattr(self, name) is not None]:
            raise ValueError(f"{', '.join(theirs)}: only with engine: onnx")
        return self

    @property
    def not_known(self) -> frozenset[str]:
        """The options that have no meaning for the engine."""
        return _NOT_OF_ONNX if self.engine == "onnx" else frozenset()

    def beyond_the_engine(self) -> list[str]:
        """The options whose values the engine cannot follow."""
        usual = type(self).model_fields
        return [
            name
            for name in sorted(self.not_known)
            if getattr(self, name) != usual[name].default
            and (name, getattr(self, name)) != ("temperature", (0.0,))  # Its only temperature.
        ]

    def overruled(self, wanted: Request) -> tuple[Self, list[str]]:
        """The options, overruled by a vCon's request as far as the engine can follow it, and
        warnings about wishes that it cannot follow.

        Raises:
            Rejected: the request wants a translation, which the engine cannot make. (A transcript
                in the spoken language would mislead.)
        """
        asked = self.model_copy(update=wanted.overruling())
        beyond = asked.beyond_the_engine()
        if not beyond:
            return asked, []
        if "translate" in beyond:
            raise Rejected("a translation is asked for, and the engine of this link makes none")
        usual = {name: type(self).model_fields[name].default for name in beyond}
        told = f"asked for, and not known to the engine: {', '.join(beyond)}"
        return asked.model_copy(update=usual), [told]

    def which(self) -> Model:
        """The model. Links with equal models share one loaded model per process."""
        return Model(
            name=self.model,
            engine=self.engine,
            model_type=self.model_type,
            quantization=self.quantization,
            device=self.device,
            device_index=self.device_index,
            compute_type=self.compute_type,
            cpu_threads=self.cpu_threads,
            local_files_only=self.local_files_only,
            cache_dir=self.cache_dir,
        )

    def how(self) -> Listening:
        """The parameters of the transcription."""
        return Listening(
            language=self.language,
            translate=self.translate,
            multilingual=self.multilingual,
            beam_size=self.beam_size,
            temperatures=self.temperature,
            prompt=self.prompt,
            hotwords=self.hotwords,
            words=self.words,
            channels_apart=self.channels_apart,
            vad=self.vad,
            vad_threshold=self.vad_threshold,
            vad_pause_ms=self.vad_pause_ms,
        )
