"""Declares the commands of `conserver`: their names, arguments and help.

operating.py declares the commands for those who operate lists and hosts (`list`, `ps`, `pause`,
`retry`, `drain` ...), groups.py those of groups such as `conserver dlq`. A command's module is
imported when the command runs, so that no command imports the libraries of another one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from conserver import __version__
from conserver.cli import operating
from conserver.cli.arguments import AsJson, ConfigFile, DryRun, Uuid, end, examples, seconds
from conserver.cli.groups import GROUPS
from conserver.cli.output import Output

_app = typer.Typer(
    name="conserver",
    help="Takes conversations from Redis lists through chains of links into storages.",
    no_args_is_help=True,
    rich_markup_mode=None,  # Plain help fits a narrow terminal, and grep finds words in it.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
_app.add_typer(operating.commands)
for _name, _group in GROUPS.items():
    _app.add_typer(_group, name=_name)


def run_cli(words: Sequence[str]) -> int:
    """Runs a command line (without the program's name) and returns its exit code."""
    try:
        _app(list(words), prog_name="conserver")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"conserver {__version__}\n")
        raise typer.Exit


@_app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    pass


@_app.command(epilog=examples("run --config config.yml --workers 4"))
def run(
    config: ConfigFile = "",
    workers: Annotated[
        str,
        typer.Option("--workers", "-w", metavar="N", help="Overrides CONSERVER_WORKERS."),
    ] = "",
) -> None:
    """Run the daemon until SIGTERM.

    It has a supervisor, a coordinator and workers, and the API if
    CONSERVER_API_PORT is set.
    """
    from conserver.cli.run import run

    end(lambda: run(config, workers))


@_app.command(epilog=examples("api --port 8000 --workers 2"))
def api(
    config: ConfigFile = "",
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Overrides CONSERVER_API_HOST.")
    ] = "",
    port: Annotated[
        int,
        typer.Option(
            "--port", "-p", min=0, max=65_535, help="Overrides CONSERVER_API_PORT; else 8000."
        ),
    ] = 0,
    workers: Annotated[
        int, typer.Option("--workers", "-w", metavar="N", min=1, max=256, help="Processes.")
    ] = 1,
) -> None:
    """Serve the HTTP API and the dashboard alone, until SIGTERM.

    `conserver run` serves them, too, if CONSERVER_API_PORT is set.
    """
    from conserver.cli.api import serve

    end(lambda: serve(config, host, port, workers))


@_app.command(epilog=examples("check --config config.yml", "check --connect --json"))
def check(
    config: ConfigFile = "",
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask Redis and every storage, too.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Check settings, configuration, links and storages."""
    from conserver.cli.check import check

    end(lambda: check(Output(as_json=json), config, connect=connect))


@_app.command()
def settings(json: AsJson = False) -> None:
    """List every setting with its value and meaning."""
    from conserver.cli.settings import show_settings

    end(lambda: show_settings(Output(as_json=json)))


@_app.command()
def health(json: AsJson = False) -> None:
    """Tell by the exit code whether this host takes items."""
    from conserver.cli.health import health

    end(lambda: health(Output(as_json=json)))


@_app.command(epilog=examples("status --watch 2", "status --json"))
def status(
    config: ConfigFile = "",
    watch: Annotated[float, seconds("--watch", "Repeat that often.", most=86_400)] = 0,
    json: AsJson = False,
) -> None:
    """Show lists, hosts, workers, storages, and what is wrong.

    Below the tables stands what is wrong now, the worst first, and what to do.
    """
    from conserver.cli.status import status

    end(lambda: status(Output(as_json=json), config, watch_s=watch))


@_app.command()
def doctor(json: AsJson = False) -> None:
    """Examine Redis: version, persistence, eviction, rights, clock."""
    from conserver.cli.doctor import doctor

    end(lambda: doctor(Output(as_json=json)))


@_app.command(epilog=examples("forget --stored --dry-run"))
def forget(
    stored: Annotated[
        bool, typer.Option("--stored", help="Documents of ended items that all storages have.")
    ] = False,
    dry_run: DryRun = False,
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Make room in Redis: delete documents before they expire."""
    from conserver.cli.forget import forget

    end(lambda: forget(Output(as_json=json), config, stored=stored, dry_run=dry_run))


@_app.command()
def reclaim(json: AsJson = False) -> None:
    """Return to their lists the items of workers that no host knows.

    `conserver doctor` says whether there are any.
    """
    from conserver.cli.reclaim import reclaim

    end(lambda: reclaim(Output(as_json=json)))


@_app.command(
    epilog=examples(
        "submit --list calls call.vcon.json",
        "submit --list calls --wait recordings/",
        "submit --list calls --at 2h --priority low -",
    )
)
def submit(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="vCon or audio files, folders of them; - is stdin."),
    ],
    to: Annotated[
        str,
        typer.Option("--list", "-l", metavar="NAME", help="The list; needed if there are several."),
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each has ended.")] = False,
    timeout: Annotated[float, seconds("--timeout", "How long --wait waits.")] = 600,
    at: Annotated[
        str, typer.Option("--at", metavar="TIME", help="Run it later: 2026-12-01T02:00, or in 2h.")
    ] = "",
    priority: Annotated[
        str, typer.Option("--priority", metavar="NAME", help="high, normal or low.")
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also to a list that nobody has ever served.")
    ] = False,
    callback: Annotated[
        str,
        typer.Option(
            "--callback",
            metavar="URL",
            help="Who is told when a job ends: a URL, a JSON object, or @FILE with one of them.",
        ),
    ] = "",
    config: ConfigFile = "",
    json: AsJson = False,
) -> None:
    """Put vCons and recordings on a list.

    They come from files, folders and standard input; audio files become vCons. A
    file holds one vCon, or several: one per line, or one after the other. Each
    vCon becomes a job, which `conserver jobs` shows. --wait follows each job to its
    end: completed (stored and passed on), filtered (by a link), cancelled or failed
    (a dead letter). A job that has not ended before --timeout is `waiting`. The exit
    code is 0 if all are completed or filtered.
    """
    from conserver.cli.submit import submit

    found = [Path(path) for path in paths]
    output = Output(as_json=json)
    end(
        lambda: submit(
            output,
            found,
            to,
            config,
            wait=wait,
            timeout_s=timeout,
            callback_text=callback,
            at=at,
            priority=priority,
            force=force,
        )
    )


@_app.command(
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
) -> None:
    """Transcribe audio files, without any queue; no Redis is needed."""
    from conserver.cli.transcribe import transcribe
    from conserver.media.transcription.engine import Listening, Model

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
    end(lambda: transcribe(files, wanted, listening, form=form, folder=folder))


@_app.command(epilog=examples("get 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978 --from redis"))
def get(
    uuid: Uuid,
    config: ConfigFile = "",
    source: Annotated[
        str, typer.Option("--from", metavar="NAME", help="`redis`, or a storage's name.")
    ] = "",
    json: AsJson = False,
) -> None:
    """Print a vCon, from Redis or from a storage.

    Without --from it asks Redis first, then the storages in their order.
    """
    from conserver.cli.get import get

    end(lambda: get(Output(as_json=json), uuid, config, source))


@_app.command(epilog=examples("where 0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978"))
def where(uuid: Uuid, config: ConfigFile = "", json: AsJson = False) -> None:
    """Tell where a vCon is, or how it ended.

    It shows the list and the place, the worker that runs it, and what it waits for.
    """
    from conserver.cli.where import where

    end(lambda: where(Output(as_json=json), uuid, config))
