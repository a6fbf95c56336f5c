"""The entry point of `conserver` and `python -m conserver`.

`run` and `health` bypass the command line parser, because importing Typer, Rich and the other
commands would cost time at every start and memory in every process.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Mapping, Sequence

from conserver.process.imports import cheap_imports


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. arguments: None: those of the process, which ends
    after the command.
    """
    if arguments is not None:
        return _command(list(arguments))
    try:
        return _command(sys.argv[1:])
    finally:
        # At its exit the interpreter collects garbage several times, which would take 0.05 s. The
        # objects that are left then end with the process.
        gc.freeze()


def _command(words: list[str]) -> int:
    _open_closed_streams()
    _print_whatever_it_is(sys.stdout)
    match words:
        case ["run", *rest] if (given := _run_options(rest)) is not None:
            return _run(given)
        case ["health"]:
            return _health()
    with cheap_imports():
        from conserver.cli.app import run_cli

    return run_cli(words)


def _open_closed_streams() -> None:
    """Open /dev/null as each standard stream that the caller has closed (`>&-`).

    Python has None for a closed stream, so that writing to it and flushing it would fail.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # The kernel assigns the lowest free number, which is the stream's own.
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), "r+")
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _print_whatever_it_is(stream: object) -> None:
    """Let the stream print `?` for characters that its encoding lacks.

    Names of lists and words of transcripts may contain such characters, and a command must not end
    with a traceback because of them.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="replace")


def _run_options(words: Sequence[str]) -> Mapping[str, str] | None:
    """The options of `run`, parsed without Typer, which the daemon must not load. None for `--help`
    and for wrong options, which Typer then reports.
    """
    names = {"--config": "config", "-c": "config", "--workers": "workers", "-w": "workers"}
    pairs = list(zip(words[::2], words[1::2], strict=False))
    if len(words) % 2 or any(name not in names or text[:1] in "-" for name, text in pairs):
        return None
    return {names[name]: text for name, text in pairs}


def _run(given: Mapping[str, str]) -> int:
    with cheap_imports():
        # Import log first: it keeps structlog from importing Rich.
        from conserver.telemetry import log  # noqa: F401  isort: skip
        from conserver.cli.daemon import run
        from conserver.cli.output import execute

    return execute(lambda: run(given.get("config", ""), given.get("workers", "")))


def _health() -> int:
    with cheap_imports():
        from conserver.cli.output import Output, execute
        from conserver.cli.probe import health

    return execute(lambda: health(Output()))


if __name__ == "__main__":
    sys.exit(main())
