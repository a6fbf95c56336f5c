"""`conserver token`: makes, lists and revokes the tokens of the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from conserver.cli.environment import load_settings
from conserver.cli.output import Output, note
from conserver.config.setting_types import parse_size
from conserver.errors import EXIT_CONFIG, EXIT_FAILURE, BootError, InvalidArgumentError
from conserver.operations import tokens

_RESTART = "the API reads the file when it starts: restart it, or reload the daemon (SIGHUP)"


def add(
    output: Output,
    name: str,
    roles: Sequence[str],
    lists: Sequence[str],
    file: str,
    jobs_at_once: int,
    bytes_per_day: str,
    jobs_per_minute: int,
) -> int:
    """Makes a token and prints it, once."""
    path = _path(file)
    try:
        size = parse_size(bytes_per_day)
    except ValueError as error:
        raise InvalidArgumentError("bytes-per-day", f"{{}} {error}") from None
    try:
        text = tokens.add(
            path,
            name,
            roles,
            lists,
            jobs_at_once=jobs_at_once,
            bytes_per_day=size,
            jobs_per_minute=jobs_per_minute,
        )
    except ValueError as error:
        raise InvalidArgumentError("role", str(error)) from None
    except OSError as error:
        raise _unusable(path, error) from None
    if output.as_json:
        # Output.value would hide the token.
        output.raw(f'{{"name": "{name}", "token": "{text}"}}\n'.encode())
    else:
        output.raw(f"{text}\n".encode())
    note(f"this is the only time that it is shown; {_RESTART}")
    return 0


def show(output: Output, file: str) -> int:
    """Lists the tokens: their names, roles, lists and limits of their own."""
    found = tokens.load(_path(file))
    output.value(
        [
            {
                "name": one.name,
                "roles": one.roles,
                "lists": one.lists,
                "created_at": _at(one),
                "jobs_at_once": one.jobs_at_once or None,
                "jobs_per_minute": one.jobs_per_minute or None,
                "bytes_per_day": one.bytes_per_day or None,
            }
            for one in found
        ]
    )
    rows = [
        (
            one.name,
            ", ".join(one.roles),
            ", ".join(one.lists) or "all",
            one.jobs_at_once or "",
            one.jobs_per_minute or "",
            one.bytes_per_day or "",
            _at(one),
        )
        for one in found
    ]
    columns = ("name", "roles", "lists", "jobs at once", "jobs per minute", "bytes per day", "made")
    output.table(columns, rows, none="no tokens")
    return 0


def revoke(output: Output, name: str, file: str) -> int:
    """Forgets a token."""
    path = _path(file)
    try:
        there = tokens.revoke(path, name)
    except OSError as error:
        raise _unusable(path, error) from None
    output.value({"revoked": [name] if there else []})
    if not there:
        note(f"there is no token of the name {name}")
        return EXIT_FAILURE
    output.line(f"revoked: {name}")
    note(f"a running API still accepts it: {_RESTART}")
    return 0


def _path(file: str) -> Path:
    path = file or load_settings().api_tokens_file
    if not path:
        raise BootError(
            "no file of tokens is named: set CONSERVER_API_TOKENS_FILE, or use --file", EXIT_CONFIG
        )
    return Path(path)


def _unusable(path: Path, error: OSError) -> BootError:
    return BootError(f"{path} cannot be written: {error.strerror}", EXIT_CONFIG)


def _at(token: tokens.Token) -> str:
    if not token.created_at:
        return ""
    return datetime.fromtimestamp(token.created_at, UTC).strftime("%Y-%m-%d %H:%M")
