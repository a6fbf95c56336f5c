"""What all commands share: how they speak, how they fail, how they get settings and Redis.

Exit codes (errors.py has their names): 0 done, 1 failed, 2 wrong usage, 69 a server cannot be
reached, 70 a child cannot start, 78 the configuration is wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from conserver.config import settings
from conserver.config.environment import Environment
from conserver.config.settings import Settings
from conserver.errors import (
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_UNAVAILABLE,
    BootError,
    ConfigError,
    ConserverError,
)
from conserver.telemetry.redact import (
    keep_secret,
    printable,
    redact_text,
    redact_texts,
    secret_values,
)

if TYPE_CHECKING:
    from rich.console import Console

    from conserver.cli.tables import Style
    from conserver.config.model import Config

EXIT_INTERRUPTED = 130

# redis-py types each answer as all that any of its clients may give. Ours are those of a blocking
# client that decodes nothing: bytes, integers, and lists of them.
Client: TypeAlias = Any

# How remarks begin that should be seen.
_NOTE_STYLES: dict[str, Style] = {"error": "bad", "refused": "bad", "warning": "warning"}

_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS


class Output:
    """Where a command's results go: text and tables for people, or one JSON value for programs."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    def value(self, value: object) -> None:
        """The result for programs; nothing where people read."""
        if self.as_json:
            self.raw(orjson.dumps(redact_texts(value), option=_JSON, default=str))

    def line(self, text: str = "") -> None:
        """A line for people; nothing where a program reads."""
        if not self.as_json:
            sys.stdout.write(printable(redact_text(text), keep="\n\t") + "\n")

    def raw(self, data: bytes) -> None:
        """Bytes as they are, such as a document."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, none: str = ""
    ) -> None:
        """A table for people; nothing where a program reads. `none` is said where it is empty."""
        if self.as_json:
            return
        if not rows and none:
            note(none)
            return
        from conserver.cli import tables  # with Rich, which the daemon shall not load

        shown = [[_shown(cell) for cell in row] for row in rows]
        for line in tables.lines_of(self.screen, columns, shown):
            sys.stdout.write(line + "\n")

    @property
    def screen(self) -> Console:
        """What standard output leads to."""
        from conserver.cli import tables

        return tables.screen(sys.stdout)


def _shown(cell: object) -> object:
    """A cell without secrets; one that stands out still does."""
    from conserver.cli.tables import Marked

    if isinstance(cell, Marked):
        return Marked(redact_texts(cell.value), cell.style)
    return redact_texts(cell)


def note(text: str) -> None:
    """A remark or a complaint: on standard error, so that results stay clean."""
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
        sys.stdout.flush()  # here, where a reader that has enough is expected
        return exit_code
    except BootError as error:
        note(f"conserver: {error}")
        return error.exit_code
    except ConserverError as error:
        note(f"conserver: {error}")
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has enough, as in `| head`. What is still buffered has nowhere to
        # go, and the interpreter would complain about that at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def load_settings(config_file: str = "") -> Settings:
    """The settings of this environment; `config_file` (--config) goes before CONSERVER_CONFIG_FILE.

    Raises:
        ConfigError: with every variable that cannot be used.
    """
    environ = dict(os.environ)
    if config_file:
        environ["CONSERVER_CONFIG_FILE"] = config_file
    found = settings.load(Environment(environ))
    keep_secret(secret_values(found.redis_url.get_secret_value()))
    return found


def load_config(found: Settings) -> Config:
    """The configuration that the settings name.

    Raises:
        ConfigError: with everything that is wrong with it.
    """
    from conserver.config import model as config  # Commands that need none start faster without it.

    loaded = config.load(found.config_file, Environment(os.environ))
    # Once, before there are children: what they log and write down is clean of it as well.
    config.keep_secrets(loaded)
    return loaded


def configured_lists(found: Settings) -> list[str]:
    """The lists that the configuration serves; none, with a warning, where it cannot be used.

    For commands that look after a running system from a place where its file may not be.
    """
    try:
        return list(load_config(found).ingress)
    except ConfigError as error:
        note(f"warning: {error}")
        return []


@contextmanager
def redis_client(found: Settings, timeout_s: float = 5.0) -> Iterator[Client]:
    """A client that has answered a PING. What Redis refuses ends the command with a clear message.

    Raises:
        BootError: Redis cannot be reached, or does not let us in.
        ConserverError: it refused a command.
    """
    from redis import exceptions

    from conserver.queue import clients as connection

    url = redact_text(found.redis_url.get_secret_value())
    client = connection.client(found.redis_url.get_secret_value(), timeout_s)
    try:
        client.ping()
        yield client
    except exceptions.AuthenticationError as error:
        raise BootError(f"Redis at {url} does not let us in: {error}", EXIT_CONFIG) from None
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise BootError(f"Redis at {url} cannot be reached: {error}", EXIT_UNAVAILABLE) from None
    except exceptions.RedisError as error:
        raise ConserverError(f"Redis at {url} refused: {error}{_which(client, error)}") from None
    finally:
        client.close()


def _which(client: Client, error: Exception) -> str:
    """The keys that Redis may mean where it complains of a type; it does not say which."""
    from redis.exceptions import RedisError

    from conserver.cli.keys import wrong_keys

    if "WRONGTYPE" not in str(error):
        return ""
    try:
        return "".join(f"\n  - {text}" for text in wrong_keys(client))
    except RedisError:
        return ""  # The complaint itself is what matters.


def age_text(seconds: float) -> str:
    """A duration as people say it: `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
