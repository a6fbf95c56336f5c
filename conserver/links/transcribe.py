"""transcribe: transcribes the recordings of a vCon.

    options:
      model: /models/faster-whisper-small      a folder, a size ("small") or a hub id
      language: en                             without it, detected for each channel

For every dialog that is a recording and has no transcript yet:

1. reads the audio from the dialog's body or url, and compares it with content_hash;
2. decodes it, each channel separately, and assigns the channels to parties;
3. transcribes each channel;
4. adds a `transcript` and a `wtf_transcription` analysis, and makes a checkpoint, so that this
   dialog is not transcribed again if the next one fails.

A recording that can never be transcribed (no audio, damaged, wrong hash, too long) does not affect
other dialogs: they are transcribed first. Then the vCon is dead-lettered with a reason for each
unusable dialog. With `on_unusable: skip` the reasons are logged and the chain continues.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from conserver.errors import Rejected
from conserver.links import LinkContext
from conserver.outbound.fetch import FetchOptions, fetch
from conserver.outbound.fetch import prepare as prepare_fetching
from conserver.transcription import audio, results, whisper
from conserver.transcription.conversation import Transcription
from conserver.transcription.engine import Listening, Model, OpenTranscriber
from conserver.transcription.speakers import speakers_of
from conserver.vcon.document import (
    Vcon,
    content_hashes,
    decode_base64url,
    indices,
    media_type,
    numbered,
)

COSTLY = True

_TRANSCRIPTS = {"transcript", "transcription", results.WTF}
_TOLD = {"language", "translate", "multilingual", "prompt", "hotwords", "beam_size", "temperature",
         "words", "vad", "vad_threshold", "vad_pause_ms"}  # fmt: skip
_NO_RECORDINGS = {"text", "transfer", "incomplete", "recording-set"}


class Options(BaseModel):
    """The model and its parameters, limits of recordings, and which analyses are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: int = Field(default=0, ge=0)
    compute_type: Literal[
        "auto", "default", "int8", "int8_float16", "int8_float32", "int8_bfloat16",
        "int16", "float16", "bfloat16", "float32",
    ] = "auto"  # fmt: skip
    cpu_threads: int = Field(default=0, ge=0, le=256)
    local_files_only: bool = True
    cache_dir: str | None = None

    language: str | None = None
    translate: bool = False
    multilingual: bool = False
    prompt: str | None = None
    hotwords: str | None = None
    beam_size: int = Field(default=5, ge=1, le=20)
    temperature: tuple[float, ...] = (0.0, 0.4, 0.8)
    words: bool = True
    vad: bool = True
    vad_threshold: float = Field(default=0.5, gt=0, lt=1)
    vad_pause_ms: int = Field(default=500, ge=0)

    min_duration_s: float = Field(default=0, ge=0, allow_inf_nan=False)
    max_duration_s: float = Field(default=4 * 3600, gt=0, allow_inf_nan=False)
    fetch: FetchOptions = FetchOptions()
    on_unusable: Literal["reject", "skip"] = "reject"
    analyses: tuple[Literal["transcript", "wtf_transcription"], ...] = Field(
        default=(results.TRANSCRIPT, results.WTF), min_length=1
    )

    @field_validator("language")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in whisper.LANGUAGES:
            raise ValueError(f"{value!r} is not one of {', '.join(sorted(whisper.LANGUAGES))}")
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

    def which(self) -> Model:
        """The model. Links with equal ones share one loaded model per process."""
        return Model(
            name=self.model,
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
            vad=self.vad,
            vad_threshold=self.vad_threshold,
            vad_pause_ms=self.vad_pause_ms,
        )


def prepare(options: Options) -> None:
    """Import the packages, and check that the model exists."""
    whisper.prepare(options.which())
    prepare_fetching()


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Transcribe every recording that has no transcript yet."""
    return transcribe(vcon, options, context, whisper.shared)


def transcribe(
    vcon: Vcon, options: Options, context: LinkContext, open_transcriber: OpenTranscriber
) -> Vcon:
    """`run` with any engine. `open_transcriber` is called only if there is a recording.

    Raises:
        Rejected: recordings that can never be transcribed, each with its index and the reason. All
            others have been transcribed and checkpointed before.
        Retry: the engine or the server of a url is not available now.
        TimeoutError: the soft time limit was exceeded.
    """
    done = _transcribed(vcon)
    unusable: list[str] = []
    for index, dialog in numbered(vcon.dialogs):
        if reason := _why_not(dialog, index in done, options):
            context.log.debug("dialog_skipped", dialog=index, reason=reason)
            continue
        try:
            heard = _hear(vcon, dialog, options, context, open_transcriber)
        except Rejected as error:
            unusable.append(f"dialog {index}: {error}")
            context.log.warning("dialog_unusable", dialog=index, reason=str(error))
            continue
        if heard is None:
            continue
        for analysis in results.analyses(heard, index, options.analyses):
            vcon.add_analysis(analysis)
        if results.WTF in options.analyses:
            vcon.extend_extensions(results.WTF)
        context.checkpoint()
    if unusable and options.on_unusable == "reject":
        raise Rejected("; ".join(unusable))
    return vcon


def _transcribed(vcon: Vcon) -> set[int]:
    """The indices of dialogs that have a transcript, of any vendor."""
    return {
        dialog
        for _, analysis in numbered(vcon.analysis)
        if analysis.get("type") in _TRANSCRIPTS
        for dialog in indices(analysis.get("dialog"))
    }


def _why_not(dialog: dict[str, Any], transcribed: bool, options: Options) -> str:
    """Why a dialog is not transcribed; "" if it is."""
    if not _is_recording(dialog):
        return "it is no recording"
    if transcribed:
        return "it has a transcript"
    if not dialog.get("body") and not dialog.get("url"):
        return "it has neither body nor url"
    duration_s = dialog.get("duration")
    if isinstance(duration_s, int | float) and duration_s < options.min_duration_s:
        return f"it lasts {duration_s:g} s, less than {options.min_duration_s:g} s"
    return ""


def _is_recording(dialog: dict[str, Any]) -> bool:
    if dialog.get("type") == "recording":
        return True
    sounds = (media_type(dialog) or "").startswith(("audio/", "video/"))
    return sounds and dialog.get("type") not in _NO_RECORDINGS


def _hear(
    vcon: Vcon,
    dialog: dict[str, Any],
    options: Options,
    context: LinkContext,
    open_transcriber: OpenTranscriber,
) -> Transcription | None:
    """Decode and transcribe one dialog; None if it is shorter than `min_duration_s`."""
    pulse = _pulse(context)
    pulse()
    started = datetime.now(UTC)
    began_s = time.monotonic()
    content = _content(dialog, options, context)
    kind = dialog.get("mediatype") or dialog.get("mimetype") or ""
    recording = audio.decode(content, media_type=str(kind), max_duration_s=options.max_duration_s)
    del content
    if recording.duration_s < options.min_duration_s:
        context.log.debug("dialog_skipped", reason="too short", audio_s=recording.duration_s)
        return None
    # Dual mono has been reduced to one channel, with all speakers on it.
    speakers, warnings = speakers_of(dialog, vcon.parties, len(recording.channels))
    transcriber = open_transcriber(options.which())
    heard = [
        transcriber.transcribe(channel, options.how(), pulse) for channel in recording.channels
    ]
    duration_s = time.monotonic() - began_s
    context.log.debug(
        "dialog_transcribed",
        audio_s=round(recording.duration_s, 3),
        channels=recording.source_channels,
        segments=sum(len(one.segments) for one in heard),
        duration_ms=round(duration_s * 1000),
        realtime_factor=round(duration_s / recording.duration_s, 4),
    )
    return Transcription(
        recording=recording,
        speakers=speakers,
        heard=heard,
        identity=transcriber.identity,
        options=options.model_dump(mode="json", include=_TOLD, exclude_none=True),
        started=started,
        finished=datetime.now(UTC),
        warnings=warnings,
    )


def _pulse(context: LinkContext) -> Callable[[], None]:
    """A function for the engine to call regularly; raises if the item is cancelled or too late."""

    def pulse() -> None:
        context.check_cancelled()
        if context.remaining_s() == 0:
            raise TimeoutError("the time limit ran out while transcribing")

    return pulse


def _content(dialog: dict[str, Any], options: Options, context: LinkContext) -> bytes:
    """The bytes of the recording, compared with content_hash."""
    body = dialog.get("body")
    hashes = content_hashes(dialog)
    if not body:
        return fetch(str(dialog.get("url")), options.fetch, context, hashes)
    encoding = dialog.get("encoding") or "base64url"
    if not isinstance(body, str) or encoding not in ("base64url", "base64"):
        raise Rejected(f"a body with encoding {encoding!r} cannot hold a recording")
    content = decode_base64url(body)
    for algorithm, digest in hashes:
        if hashlib.new(algorithm, content).digest() != digest:
            raise Rejected(f"the recording is not the one that its {algorithm} content_hash names")
    return content
