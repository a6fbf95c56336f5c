"""`conserver transcribe`: turns audio files into text, without any queue or Redis.

Its exit code is 1 if a file could not be transcribed; standard error names the file.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import orjson
import typer

from conserver.cli.arguments import examples, typer_app
from conserver.cli.output import EXIT_INTERRUPTED, Output, note
from conserver.errors import EXIT_FAILURE, ConfigError, ConserverError, InvalidArgumentError
from conserver.media.speech import standalone
from conserver.media.speech.client import SharedTranscriber
from conserver.media.speech.devices import gpus
from conserver.media.speech.service_options import service_options
from conserver.media.transcription import audio, bleed, formats, onnx_models, transcript, whisper
from conserver.media.transcription.conversation import Transcription, conversation
from conserver.media.transcription.engine import Following, Listening, Model
from conserver.media.transcription.languages import LANGUAGES
from conserver.media.transcription.models import ModelMissingError, find_model
from conserver.media.transcription.speakers import speakers_of
from conserver.media.transcription.transcript import Transcript
from conserver.media.transcription.wtf import wtf_body
from conserver.operations.recordings import MEDIA_TYPES
from conserver.telemetry.redact import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

# So many files are transcribed at once, so that short files fill batches together.
_FILES_AT_ONCE = 8
_SUFFIXES = {"text": "txt", "verbose_json": "json", "diarized_json": "json"}
_MAX_DURATION_S = 24 * 3600.0

app = typer_app()


@app.command(
    epilog=examples(
        "transcribe --model small call.wav", "transcribe --format srt --output subtitles *.mp3"
    )
)
def transcribe(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Audio or video files."),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A folder, a size (small) or a hub id.")
    ] = "small",
    form: Annotated[
        str,
        typer.Option("--format", "-f", help="text, srt, vtt, json, verbose_json, diarized_json."),
    ] = "text",
    folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Write a file per recording there."),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", "-l", help="Such as en; by default it is detected.")
    ] = "",
    prompt: Annotated[
        str, typer.Option("--prompt", help="Text that leads the model to names and spellings.")
    ] = "",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    translate: Annotated[bool, typer.Option("--translate", help="Write English.")] = False,
    engine: Annotated[
        str, typer.Option("--engine", help="whisper, or onnx for folders of onnx-asr.")
    ] = "whisper",
    quantization: Annotated[
        str, typer.Option("--quantization", help="Only with --engine onnx; such as int8.")
    ] = "",
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the model from the hub if it is not here.")
    ] = False,
) -> int:
    """Transcribe audio files, without any queue; no Redis is needed."""
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter("it is auto, cpu or cuda", param_hint="--device")
    if engine not in ("whisper", "onnx"):
        raise typer.BadParameter("it is whisper or onnx", param_hint="--engine")
    wanted = Model(
        model,
        engine=engine,  # type: ignore[arg-type]
        device=device,  # type: ignore[arg-type]
        local_files_only=not download,
        quantization=quantization or None,
    )
    listening = Listening(language=language or None, translate=translate, prompt=prompt or None)
    return _transcribe(files, wanted, listening, form=form, folder=folder)


def _transcribe(
    files: Sequence[Path],
    model: Model,
    listening: Listening,
    *,
    form: str,
    folder: Path | None,
) -> int:
    """Transcribe files, and print their texts in the order of the files or write them to a folder.

    Args:
        files: audio or video files.
        form: one of transcription.formats.MEDIA_TYPES.
        folder: the folder for one text file per recording; None prints the texts. If there are
            several files, a line `==> FILE <==` stands before each plain text, as `head` prints it,
            and each object in JSON has the member `file`.

    Returns:
        The exit code: 1 if a file could not be transcribed; standard error names the file.

    Raises:
        InvalidArgumentError: the model is missing, the format or the language is unknown, or the
            folder cannot be written to.
    """
    if form not in formats.MEDIA_TYPES:
        known = ", ".join(formats.MEDIA_TYPES)
        raise InvalidArgumentError("format", f"{{}} {form}: it is one of {known}")
    if listening.language and listening.language not in LANGUAGES:
        raise InvalidArgumentError(
            "language", f"{{}} {listening.language}: Whisper knows no such language"
        )
    _check(model, listening)
    targets = _targets(files, form, folder)
    on_gpu = model.device != "cpu" and bool(gpus(os.environ))
    options = service_options(models=[model], gpu=on_gpu, cores=len(os.sched_getaffinity(0)))
    with standalone.running(options) as transcriber, _progress() as progress:
        engine = SharedTranscriber([transcriber.address], model)
        stop = threading.Event()

        def pulse() -> None:
            if stop.is_set():
                raise _Stopped
            transcriber.revive()

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            try:
                one_file = _Work(engine, listening, progress, pulse).run
                work = [pool.submit(one_file, path) for path in files]
                delivery = _Delivery(form, progress, several=len(files) > 1)
                failed = 0
                for path, target, one in zip(files, targets, work, strict=True):
                    failed += not delivery.deliver(path, one.result, target)
            except KeyboardInterrupt:
                _end_at_once(transcriber, progress)
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)  # None of the rest is begun.
    return EXIT_FAILURE if failed else 0


def _targets(files: Sequence[Path], form: str, folder: Path | None) -> list[Path | None]:
    """Where each transcript is written; None where it is printed.

    Raises:
        InvalidArgumentError: two would be written to one file, or one over a recording; or the
            folder cannot be written to, which is found out before hours of work.
    """
    if folder is None:
        return [None] * len(files)
    found: dict[Path, Path] = {}
    for path in files:
        target = folder / f"{path.stem}.{_SUFFIXES.get(form, form)}"
        other = found.setdefault(target, path)
        if other is not path:
            text = f"{{}}: {other} and {path} would both be written to {target}"
            raise InvalidArgumentError("output", text)
    recordings = {path.resolve() for path in files}
    for target in found:
        if target.resolve() in recordings:
            raise InvalidArgumentError("output", f"{{}}: the recording {target} would be lost")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        text = f"{{}} {folder}: cannot be written to: {error.strerror}"
        raise InvalidArgumentError("output", text) from error
    return list(found)


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


def _end_at_once(transcriber: standalone.Running, progress: Progress) -> NoReturn:
    """End this process and its transcriber after Ctrl-C.

    The interpreter would first wait for the threads of files. One of them may be decoding a long
    recording, or waiting for a pipe, for minutes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        progress.stop()  # It shows the cursor again.
        transcriber.kill()
    finally:
        os._exit(EXIT_INTERRUPTED)


class _Work:
    """Transcribes files in the calling thread, and shows the progress of each."""

    def __init__(
        self,
        engine: SharedTranscriber,
        listening: Listening,
        progress: Progress,
        pulse: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._listening = listening
        self._progress = progress
        self._pulse = pulse

    def run(self, path: Path) -> Transcript:
        """Raises a ConserverError with its reason; an OSError if memory, descriptors or processes
        are lacking.
        """
        task = self._progress.add_task(path.name, total=None, done="")
        try:
            return self._transcribe(path, task)
        finally:
            self._progress.remove_task(task)

    def _transcribe(self, path: Path, task: TaskID) -> Transcript:
        started = datetime.now(UTC)
        try:
            with path.open("rb") as file:
                recording = audio.decode(
                    file,
                    media_type=MEDIA_TYPES.get(path.suffix.lower(), ""),
                    max_duration_s=_MAX_DURATION_S,
                )
        except OSError as error:
            raise ConserverError(f"cannot be read: {error.strerror or error}") from error
        overheard = bleed.silence(recording.channels)
        for warning in (*recording.warnings, *overheard):
            text = f"{path}: warning: {warning}"
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

        def progressed(done_s: float, total_s: float) -> None:
            done = f"{done_s:.0f} of {total_s:.0f} s of speech"
            self._progress.update(task, completed=done_s, total=total_s, done=done)

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


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


class _Delivery:
    """Prints the transcripts, or writes them to files."""

    def __init__(self, form: str, progress: Progress, *, several: bool) -> None:
        """several: whether there are several recordings, so that printed texts need names."""
        self._form = form
        self._progress = progress
        self._several = several
        self._gap = ""  # an empty line between texts, as `head` prints it

    def deliver(self, path: Path, result: Callable[[], Transcript], target: Path | None) -> bool:
        """Print or write one result. Returns whether that was possible."""
        try:
            found = result()
            text = formats.render(found, self._form)
        except OSError as error:
            note(f"{path}: cannot be transcribed: {error.strerror or error}")
            return False
        except ConserverError as error:
            note(f"{path}: {error}")
            return False
        text += "" if text.endswith("\n") or not text else "\n"
        if not found.text:
            note(f"{path}: no speech was found")
        if target is None:
            self._print(self._named(path, text) if self._several else text)
            return True
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            note(f"{path}: {target} cannot be written: {error.strerror}")
            return False
        note(str(target))
        return True

    def _named(self, path: Path, text: str) -> str:
        """The text with the name of its recording, if the format has a place for it."""
        name = os.fsencode(path).decode("utf-8", "replace")
        if formats.MEDIA_TYPES[self._form] == "application/json":
            return orjson.dumps({"file": name, **orjson.loads(text)}).decode() + "\n"
        if self._form != "text":
            return text
        gap, self._gap = self._gap, "\n"
        return f"{gap}==> {printable(name)} <==\n{text}"

    def _print(self, text: str) -> None:
        """Prints to a file or pipe as UTF-8, to a terminal in the terminal's encoding."""
        if not sys.stdout.isatty():
            Output().raw(text.encode())
        elif self._progress.disable:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:  # Above the bars. `soft_wrap` leaves lines as long as they are.
            console = self._progress.console
            console.print(text, markup=False, highlight=False, soft_wrap=True, end="")
