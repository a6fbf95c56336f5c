"""`conserver` commands for tests, run in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
import typer

from conserver.__main__ import main
from conserver.cli.app import COMMANDS, _app, load

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: bytes
    stderr: bytes


def command_tree() -> Any:
    """All commands, with their options, as Typer builds them: groups have `commands`, by name."""
    # `Any`: Typer has a click of its own, without types.
    root: Any = typer.main.get_command(_app)
    root.commands = {name: load(name) for name in COMMANDS}
    return root


def every_command(of: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that is no group, after the words that call it: `dlq list`."""
    of = of or command_tree()
    for name, one in of.commands.items():
        if hasattr(one, "commands"):
            yield from every_command(one, (*path, name))
        else:
            yield " ".join((*path, name)), one


class Command:
    """Runs commands in this process, in an environment of their own."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capture: pytest.CaptureFixture[bytes],
        environ: Mapping[str, str],
    ) -> None:
        self._environ = dict(environ)
        self._monkeypatch = monkeypatch
        self._capture = capture

    def __call__(self, *words: str, **environ: str) -> Done:
        with self._monkeypatch.context() as patch:
            patch.chdir(ROOT)
            for name, value in {**self._environ, **environ}.items():
                patch.setenv(name, value)
            # What a command sets up for its log ends with it. What the test has set up stays: a
            # host in a thread of the test would else log into the command's output.
            log_before = structlog.get_config()
            self._capture.readouterr()  # What others have printed meanwhile is not its output.
            try:
                code = main(words)
            finally:
                structlog.configure(**log_before)
        out, err = self._capture.readouterr()
        return Done(code, out, err)

    def json(self, *words: str) -> Any:
        """The answer of a command that succeeds, with --json."""
        done = self(*words, "--json")
        assert done.returncode == 0, done
        return orjson.loads(done.stdout)
