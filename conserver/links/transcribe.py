"""transcribe: transcribes the recordings of a vCon.

    options:
      model: /models/faster-whisper-small      a folder, a size ("small") or a hub id
      language: en                             without it, detected for each call

    options:                                   Parakeet, Canary, GigaAM, ... by onnx-asr
      engine: onnx
      model: /models/parakeet-tdt-0.6b-v3

    options:                                   a transcription server instead of a local model
      model: whisper-large-v3
      server: {base_url: https://speech.example/v1, api_key: "${SPEECH_API_KEY}"}

For every dialog that is a recording and has no transcript yet, the link

1. reads the audio from the dialog's body or url, and compares it with content_hash;
2. decodes the audio, each channel separately, and assigns the channels to parties;
3. transcribes the channels: by the host's transcribers (conserver.media.speech), by a model in the
   worker, or by a server with OpenAI's routes (conserver.media.speech.remote). In a long call it
   makes a checkpoint every few minutes;
4. adds a `transcript` and a `wtf_transcription` analysis, and makes a checkpoint, so that this
   dialog is not transcribed again if the next dialog fails.

If a recording can never be transcribed (no audio, damaged, wrong hash, too long), all other dialogs
are transcribed first. Then the vCon is dead-lettered with a reason for each unusable dialog. With
`on_unusable: skip` the reasons are logged instead, and the chain continues.

An attachment `transcription_request` (conserver.media.transcription.request) overrides the options
for its dialog: language, prompt, translate and so on, as OpenAI's clients send them.

If a recording cannot be fetched from its url (404, 403, an unreachable server), all other dialogs
are transcribed, and the item is tried again later. After the last failed attempt such a recording
counts as unusable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Literal

from pydantic import Field

from conserver.errors import Rejected
from conserver.links import LinkContext
from conserver.media.speech import remote
from conserver.media.speech.engines import engines
from conserver.media.speech.options import EngineOptions
from conserver.media.transcription import audio, bleed, onnx_models, results, whisper
from conserver.media.transcription.conversation import Transcription, text_until
from conserver.media.transcription.engine import (
    Following,
    Model,
    OpenTranscriber,
    Segment,
)
from conserver.media.transcription.request import Request
from conserver.media.transcription.speakers import speakers_of
from conserver.outbound import endpoint
from conserver.outbound.contents import ContentAwayError, Faults, Place, file_of
from conserver.outbound.faults import FailedAttemptError
from conserver.outbound.fetch import FetchOptions
from conserver.outbound.fetch import prepare as prepare_fetching
from conserver.vcon import partial
from conserver.vcon.document import (
    Vcon,
    dialogs_of,
    duration_s,
    is_transcript,
    media_type,
    numbered,
)

COSTLY = True

_TOLD = {"language", "translate", "multilingual", "prompt", "hotwords", "beam_size", "temperature",
         "words", "channels_apart", "bleed", "vad", "vad_threshold", "vad_pause_ms"}  # fmt: skip
_TEXT_CHARS_MAX = 20_000
"""The longest text that is shown as progress, because every change sends all of it again."""
_PROGRESS = "transcription_progress"
_NO_RECORDINGS = {"text", "transfer", "incomplete", "recording-set"}


class Options(EngineOptions):
    """The engine and its parameters, limits of recordings, and which analyses are written."""

    min_duration_s: float = Field(default=0, ge=0, allow_inf_nan=False)
    max_duration_s: float = Field(default=4 * 3600, gt=0, allow_inf_nan=False)
    fetch: FetchOptions = FetchOptions()
    on_unusable: Literal["reject", "skip"] = "reject"
    analyses: tuple[Literal["transcript", "wtf_transcription"], ...] = Field(
        default=(results.TRANSCRIPT, results.WTF), min_length=1
    )


def prepare(options: Options) -> None:
    """Import the packages, and check that the model exists, or the proxy and the certificates for
    its server."""
    if options.engine == "onnx":
        onnx_models.prepare(options.which(), options.how())
    elif options.server is None:
        whisper.prepare(options.which())
    else:
        whisper.import_libraries()
        endpoint.prepare([str(options.server.base_url)], options.server.ca_file)
    prepare_fetching(options.fetch.ca_file)


def speech_model(options: Options) -> Model | None:
    """The model that the host's transcribers load; None if a server has the model."""
    return options.which() if options.server is None else None


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Transcribe every recording that has no transcript yet."""
    server = options.server
    return transcribe(vcon, options, context, remote.opener(server) if server else engines.open)


def transcribe(
    vcon: Vcon, options: Options, context: LinkContext, open_transcriber: OpenTranscriber
) -> Vcon:
    """`run` with any engine. `open_transcriber` is called only if there is a recording.

    Raises:
        Rejected: recordings can never be transcribed; the message has the index and the reason of
            each. All other recordings have been transcribed and checkpointed before.
        Retry: the engine or the server of a url is not available now.
        FailedAttemptError: the server of a url answered without the recording.
        TimeoutError: the soft time limit was exceeded.
    """

    def warn(place: Place, reason: str) -> None:
        context.log.warning("dialog_unusable", dialog=place["dialog"], reason=reason)

    faults = Faults(context, skip=options.on_unusable == "skip", warn=warn)
    for index in _to_transcribe(vcon, options, context):
        try:
            wanted = Request.of(vcon, index) or Request()
            heard = _hear(vcon, index, wanted, options, context, open_transcriber)
        except Rejected as error:
            faults.unusable({"dialog": index}, error)
            continue
        except (ContentAwayError, FailedAttemptError) as error:
            faults.away({"dialog": index}, error)
            continue
        if heard is None:
            context.log.info("dialogs_skipped", dialogs=[index], reason="it is too short")
            continue
        partial.forget(vcon, _PROGRESS, {"dialog": index})
        for analysis in results.analyses(heard, index, options.analyses):
            vcon.add_analysis(analysis)
        if results.WTF in options.analyses:
            vcon.extend_extensions(results.WTF)
        context.checkpoint()
    faults.raise_if_any()
    return vcon


def _to_transcribe(vcon: Vcon, options: Options, context: LinkContext) -> Iterator[int]:
    """The indices of the recordings to transcribe. Logs why it skips other dialogs."""
    done = _transcribed(vcon)
    for index, dialog in numbered(vcon.dialogs):
        if not _is_recording(dialog):
            context.log.debug("dialogs_skipped", dialogs=[index], reason="it is no recording")
        elif index in done:
            context.log.debug("dialogs_skipped", dialogs=[index], reason="it has a transcript")
        elif reason := _why_not(dialog, options):
            context.log.info("dialogs_skipped", dialogs=[index], reason=reason)
        else:
            yield index


def _transcribed(vcon: Vcon) -> set[int]:
    """The indices of dialogs that have a transcript, of any vendor."""
    count = len(vcon.dialogs)
    return {
        dialog
        for part in (*vcon.analysis, *vcon.attachments)
        if is_transcript(part)
        for dialog in dialogs_of(part, count)
    }


def _why_not(dialog: dict[str, Any], options: Options) -> str:
    """Why a recording without a transcript is skipped; "" if it is to be transcribed."""
    if dialog.get("body") is None and not dialog.get("url"):
        return "it has neither body nor url"
    length_s = duration_s(dialog)
    if length_s is not None and length_s < options.min_duration_s:
        return f"it lasts {length_s:g} s, less than {options.min_duration_s:g} s"
    return ""


def _is_recording(dialog: dict[str, Any]) -> bool:
    if dialog.get("type") == "recording":
        return True
    sounds = (media_type(dialog) or "").startswith(("audio/", "video/"))
    return sounds and dialog.get("type") not in _NO_RECORDINGS


def _hear(
    vcon: Vcon,
    index: int,
    wanted: Request,
    options: Options,
    context: LinkContext,
    open_transcriber: OpenTranscriber,
) -> Transcription | None:
    """Decode and transcribe one dialog; None if it is shorter than `min_duration_s`."""
    options, ignored = options.overruled(wanted)
    dialog = vcon.dialogs[index]
    pulse = _pulse(context)
    with file_of(dialog, "recording", options.fetch, context) as file:
        pulse()
        started = datetime.now(UTC)
        began_s = time.monotonic()
        recording = _decoded(dialog, file, options.max_duration_s)
    if recording.duration_s < options.min_duration_s:
        return None
    # Dual mono has been reduced to one channel, with all speakers on it.
    speakers, warnings = speakers_of(dialog, vcon.parties, len(recording.channels))
    warnings = [*warnings, *ignored]
    if options.bleed == "silence":
        warnings += bleed.silence(recording.channels)
    transcriber = open_transcriber(options.which())

    place = {"dialog": index}

    def keep(state: dict[str, Any]) -> None:
        partial.keep(vcon, _PROGRESS, place, state, results.VENDOR)
        context.checkpoint()

    shown, kept = _Shown(context), partial.kept(vcon, _PROGRESS, place)
    listen = shown.heard if wanted.follow else None
    following = Following(pulse, shown.progress, kept, keep, listen, context.throttle)
    found = transcriber.transcribe(recording.channels, options.how(), following)
    heard = found.channels
    took_s = time.monotonic() - began_s
    context.count("audio_seconds", recording.duration_s)
    context.count("transcription_seconds", took_s)
    context.log.debug(
        "dialog_transcribed",
        audio_s=round(recording.duration_s, 3),
        channels=recording.source_channels,
        segments=sum(len(one.segments) for one in heard),
        duration_ms=round(took_s * 1000),
        realtime_factor=round(took_s / recording.duration_s, 4) if recording.duration_s else None,
    )
    return Transcription(
        recording=recording,
        speakers=speakers,
        heard=heard,
        identity=found.identity,
        options=options.model_dump(
            mode="json", include=_TOLD - options.not_known, exclude_none=True
        ),
        started=started,
        finished=datetime.now(UTC),
        warnings=warnings,
    )


def _decoded(dialog: dict[str, Any], content: IO[bytes], max_duration_s: float) -> audio.Recording:
    kind = dialog.get("mediatype") or dialog.get("mimetype") or ""
    return audio.decode(
        content,
        media_type=str(kind),
        max_duration_s=max_duration_s,
        said_s=duration_s(dialog),
    )


class _Shown:
    """Shows a dialog's progress to those who follow the job: seconds of speech, and its text."""

    def __init__(self, context: LinkContext) -> None:
        self._context = context
        self._done_s, self._total_s, self._text = 0.0, 0.0, ""

    def progress(self, done_s: float, total_s: float) -> None:
        self._done_s, self._total_s = round(done_s, 1), round(total_s, 1)
        self._show()

    def heard(self, channels: Sequence[Sequence[Segment]], until_s: float) -> None:
        self._text = text_until(channels, until_s)[:_TEXT_CHARS_MAX]
        self._show()

    def _show(self) -> None:
        self._context.progress(
            self._done_s, self._total_s, "s", doing="transcribing", text=self._text
        )


def _pulse(context: LinkContext) -> Callable[[], None]:
    """A function that the engine calls regularly. It raises if the item is cancelled, or if its
    time is over."""

    def pulse() -> None:
        context.check_cancelled()
        if context.remaining_s() == 0:
            raise TimeoutError("the time limit ran out while transcribing")

    return pulse
