"""Repeats a command's output, for commands with `--watch`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from conserver.cli.output import note

if TYPE_CHECKING:
    from rich.console import Console

_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def repeat(look: Callable[[], None], watch_s: float) -> None:
    """Calls `look` once (`watch_s` 0), or every `watch_s` seconds until interrupted.

    While it repeats, an unanswered call to Redis causes a warning, and `look` is called again.
    """
    from redis import exceptions

    while True:
        try:
            look()
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            if not watch_s:
                raise
            note(f"warning: Redis does not answer, asking again: {error}")
        if not watch_s:
            return
        time.sleep(watch_s)


def write(screen: Console, lines: Sequence[str], at_s: float, *, watched: bool) -> None:
    """Writes lines by one call.

    Args:
        at_s: the Unix time at which the lines were true.
        watched: whether the output is repeated. On a terminal it then overwrites the previous
            output; in a file it has its time above and an empty line below.
    """
    if watched and screen.is_terminal:
        text = _HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW
    else:
        text = "\n".join(lines).rstrip("\n") + "\n"
        if watched:
            at = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            text = f"{at}\n{text}\n"
    sys.stdout.write(text)
    sys.stdout.flush()
