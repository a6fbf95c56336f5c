"""Prints commands' results and remarks, and turns their errors into exit codes.

Exit codes (errors.py has their names): 0 done, 1 failed, 2 wrong usage, 69 a server cannot be
reached, 70 a child cannot start, 78 the configuration is wrong, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson

from conserver.errors import (
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    BootError,
    ConserverError,
    ErrorKind,
    InvalidArgumentError,
    OperationError,
)
from conserver.telemetry.redact import printable, redact_text, redact_texts

if TYPE_CHECKING:
    from rich.console import Console

    from conserver.cli.tables import Style

EXIT_INTERRUPTED = 130

_EXIT_CODES: dict[ErrorKind, int] = {
    "invalid": EXIT_USAGE,
    "not_found": EXIT_FAILURE,
    "conflict": EXIT_FAILURE,
    "failed": EXIT_FAILURE,
    "denied": EXIT_CONFIG,
    "unavailable": EXIT_UNAVAILABLE,
}

# The first words of remarks that stand out on a terminal.
_NOTE_STYLES: dict[str, Style] = {"error": "bad", "refused": "bad", "warning": "warning"}

_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS


class Output:
    """Prints a command's result: text and tables for people, or one JSON value for programs."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def value(self, value: object) -> None:
        """With --json: prints the result as JSON, with secrets hidden. Else prints nothing."""
        if self.as_json:
            self.raw(orjson.dumps(redact_texts(value), option=_JSON, default=str))

    def line(self, text: str = "") -> None:
        """Prints a line for people; nothing with --json."""
        if not self.as_json:
            sys.stdout.write(printable(redact_text(text), keep="\n\t") + "\n")

    def raw(self, data: bytes) -> None:
        """Prints bytes as they are, such as a document."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, none: str = ""
    ) -> None:
        """Prints a table for people; nothing with --json. An empty table is replaced by `none`."""
        if self.as_json:
            return
        if not rows and none:
            note(none)
            return
        from conserver.cli import tables  # It imports Rich, which the daemon must not load.

        for line in tables.lines_of(self.screen, columns, rows):
            sys.stdout.write(line + "\n")

    @property
    def screen(self) -> Console:
        """Standard output as Rich sees it."""
        from conserver.cli import tables

        return tables.screen(sys.stdout)


def note(text: str) -> None:
    """Prints a remark on standard error, so that standard output has results only."""
    text = printable(redact_text(text), keep="\n\t")
    head, colon, rest = text.partition(":")
    style = _NOTE_STYLES.get(head)
    if colon and style and sys.stderr.isatty():
        from conserver.cli import tables

        text = tables.styled(tables.screen(sys.stderr), head, style) + colon + rest
    sys.stderr.write(text + "\n")


def execute(action: Callable[[], int]) -> int:
    """Runs a command and turns what it raises into a message and an exit code."""
    try:
        exit_code = action()
        sys.stdout.flush()  # Inside the try, because it raises BrokenPipeError.
        return exit_code
    except BootError as error:
        note(f"conserver: {error}")
        return error.exit_code
    except InvalidArgumentError as error:
        note(f"conserver: {error.named(f'--{error.argument}')}")
        return EXIT_USAGE
    except OperationError as error:
        note(f"conserver: {error}")
        return _EXIT_CODES[error.kind]
    except ConserverError as error:
        note(f"conserver: {error}")
        return EXIT_FAILURE
    except UnicodeEncodeError as error:
        # Python decodes bytes of the command line that are not UTF-8 as such surrogates.
        if not any("\udc80" <= char <= "\udcff" for char in error.object):
            raise
        note("conserver: an argument is not UTF-8; all names of lists, vCons and jobs are")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Discard the buffered output, because the
        # interpreter would report at its exit that it cannot write it.
        _discard_output()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        _discard_output()
        note(f"conserver: standard output or a file cannot be written: {error.strerror}")
        return EXIT_FAILURE


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def age_text(seconds: float) -> str:
    """A duration in the largest unit that fits at least twice: `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
