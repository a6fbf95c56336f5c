"""`conserver transcribe`: turns audio files into text, without any queue or Redis."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from conserver.cli.output import Output
from conserver.errors import EXIT_FAILURE, ConfigError, ConserverError, InvalidArgumentError
from conserver.media.speech import standalone
from conserver.media.speech.client import SharedTranscriber
from conserver.media.speech.devices import gpus
from conserver.media.speech.transcriber import service_options
from conserver.media.transcription import audio, bleed, formats, onnx_models, transcript, whisper
from conserver.media.transcription.conversation import Transcription, conversation
from conserver.media.transcription.engine import Following, Listening, Model
from conserver.media.transcription.languages import LANGUAGES
from conserver.media.transcription.models import ModelMissingError, find_model
from conserver.media.transcription.speakers import speakers_of
from conserver.media.transcription.transcript import Transcript
from conserver.media.transcription.wtf import wtf_body
from conserver.operations.recordings import MEDIA_TYPES

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# So many files are transcribed at once, so that short files fill batches together.
_FILES_AT_ONCE = 8
_SUFFIXES = {"text": "txt", "verbose_json": "json", "diarized_json": "json"}
_MAX_DURATION_S = 24 * 3600.0


def transcribe(
    files: Sequence[Path],
    model: Model,
    listening: Listening,
    *,
    form: str = "text",
    folder: Path | None = None,
) -> int:
    """Transcribe files, and print their texts in the order of the files or write them to a folder.

    Args:
        files: audio or video files.
        form: one of transcription.formats.MEDIA_TYPES.
        folder: the folder for one text file per recording; None prints the texts.

    Returns:
        The exit code: 1 if a file could not be transcribed; standard error names the file.

    Raises:
        InvalidArgumentError: the model is missing, or the format or the language is unknown.
    """
    if form not in formats.MEDIA_TYPES:
        known = ", ".join(formats.MEDIA_TYPES)
        raise InvalidArgumentError("format", f"{{}} {form}: it is one of {known}")
    if listening.language and listening.language not in LANGUAGES:
        raise InvalidArgumentError(
            "language", f"{{}} {listening.language}: Whisper knows no such language"
        )
    _check(model, listening)
    on_gpu = model.device != "cpu" and bool(gpus(os.environ))
    options = service_options(models=[model], gpu=on_gpu, cores=len(os.sched_getaffinity(0)))
    with standalone.running(options) as transcriber, _progress() as progress:
        engine = SharedTranscriber([transcriber.address], model)
        stop = threading.Event()
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            try:
                work = [
                    pool.submit(_Work(engine, listening, progress, stop).run, path)
                    for path in files
                ]
                failed = 0
                for path, one in zip(files, work, strict=True):
                    failed += not _deliver(path, one.result, form, folder)
            finally:
                stop.set()
    return EXIT_FAILURE if failed else 0


def _check(model: Model, listening: Listening) -> None:
    """Raises InvalidArgumentError if the model is missing or cannot do what `listening` wants."""
    whisper.import_libraries()
    try:
        if model.engine == "whisper":
            find_model(model)
            return
        onnx_models.prepare(model, listening)
    except ModelMissingError as error:
        raise InvalidArgumentError("model", f"{{}}: {error}") from error
    except ConfigError as error:
        first = error.problems[0]
        raise InvalidArgumentError(first.path, f"{{}}: {first.message}") from error
    except ModuleNotFoundError as error:
        reason = "{} onnx: it needs `pip install 'conserver[onnx]'`"
        raise InvalidArgumentError("engine", reason) from error
    for name in ("translate", "prompt"):
        if getattr(listening, name):
            raise InvalidArgumentError(name, "{}: --engine onnx has none")


class _Stopped(Exception):
    """Raised in the threads of files, to end them when the command ends."""


class _Work:
    """Transcribes files in the calling thread, and shows the progress of each."""

    def __init__(
        self,
        engine: SharedTranscriber,
        listening: Listening,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._engine = engine
        self._listening = listening
        self._progress = progress
        self._stop = stop

    def run(self, path: Path) -> Transcript:
        """Raises Rejected, Retry or OSError, each with its reason."""
        task = self._progress.add_task(path.name, total=None)
        try:
            return self._transcribe(path, task)
        finally:
            self._progress.remove_task(task)

    def _transcribe(self, path: Path, task: TaskID) -> Transcript:
        started = datetime.now(UTC)
        with path.open("rb") as file:
            recording = audio.decode(
                file,
                media_type=MEDIA_TYPES.get(path.suffix.lower(), ""),
                max_duration_s=_MAX_DURATION_S,
            )
        overheard = bleed.silence(recording.channels)
        for warning in (*recording.warnings, *overheard):
            text = f"{path}: warning: {warning}"
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

        def progressed(done_s: float, total_s: float) -> None:
            self._progress.update(task, completed=done_s, total=total_s)

        following = Following(self._pulse, progressed)
        found = self._engine.transcribe(recording.channels, self._listening, following)
        speakers, unclear = speakers_of({}, [], len(recording.channels))
        heard = Transcription(
            recording=recording,
            speakers=speakers,
            heard=found.channels,
            identity=found.identity,
            options={name: value for name, value in asdict(self._listening).items() if value},
            started=started,
            finished=datetime.now(UTC),
            warnings=[*unclear, *overheard],
        )
        # Go through the form of an analysis, so that the text is the same as in a vCon.
        read = transcript.read(wtf_body(heard, conversation(heard)))
        assert read is not None
        return read

    def _pulse(self) -> None:
        if self._stop.is_set():
            raise _Stopped


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s of speech"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _print(text: str) -> None:
    """Prints to a file or pipe as UTF-8, to a terminal in the terminal's encoding."""
    if sys.stdout.isatty():
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        Output().raw(text.encode())


def _deliver(
    path: Path,
    result: Callable[[], Transcript],
    form: str,
    folder: Path | None,
) -> bool:
    """Print or write one result. Returns False if the file could not be transcribed."""
    try:
        text = formats.render(result(), form)
        text += "" if text.endswith("\n") or not text else "\n"
    except (OSError, ConserverError) as error:
        sys.stderr.write(f"{path}: {error}\n")
        return False
    if folder is None:
        _print(text)
        return True
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{path.stem}.{_SUFFIXES.get(form, form)}"
    target.write_text(text, encoding="utf-8")
    sys.stderr.write(f"{target}\n")
    return True
