"""`conserver token`: makes, lists and revokes the tokens of the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from conserver.cli.environment import load_settings
from conserver.cli.output import Output, note
from conserver.errors import EXIT_CONFIG, EXIT_FAILURE, BootError, InvalidArgumentError
from conserver.operations import tokens

_RESTART = "the API reads the file when it starts: restart it, or reload the daemon (SIGHUP)"


def add(output: Output, name: str, roles: Sequence[str], lists: Sequence[str], file: str) -> int:
    """Makes a token and prints it, once."""
    path = _path(file)
    try:
        text = tokens.add(path, name, roles, lists)
    except ValueError as error:
        raise InvalidArgumentError("role", str(error)) from None
    except OSError as error:
        raise _unusable(path, error) from None
    if output.as_json:
        # Not through Output.value, which would hide it.
        output.raw(f'{{"name": "{name}", "token": "{text}"}}\n'.encode())
    else:
        output.raw(f"{text}\n".encode())
    note(f"this is the only time that it is shown; {_RESTART}")
    return 0


def show(output: Output, file: str) -> int:
    """Lists the tokens: their names, roles and lists."""
    found = tokens.load(_path(file))
    output.value(
        [
            {"name": one.name, "roles": one.roles, "lists": one.lists, "created_at": _at(one)}
            for one in found
        ]
    )
    rows = [
        (one.name, ", ".join(one.roles), ", ".join(one.lists) or "all", _at(one)) for one in found
    ]
    output.table(("name", "roles", "lists", "made"), rows, none="no tokens")
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
    note(f"it is accepted until then: {_RESTART}")
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
