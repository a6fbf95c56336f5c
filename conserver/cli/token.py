"""`conserver token`: makes, lists and revokes the tokens of the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, examples, number, typer_app
from conserver.cli.environment import load_settings
from conserver.cli.output import Output, note
from conserver.config.setting_types import parse_size
from conserver.errors import EXIT_CONFIG, EXIT_FAILURE, BootError, InvalidArgumentError
from conserver.operations import tokens

_RESTART = "the API reads the file when it starts: restart it, or reload the daemon (SIGHUP)"

TokensFile = Annotated[
    str,
    typer.Option("--file", "-f", metavar="FILE", help="Overrides CONSERVER_API_TOKENS_FILE."),
]
TokenName = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
JobsAtOnce = Annotated[
    int, number(help_="Most jobs unfinished at once; default: CONSERVER_API_JOBS_AT_ONCE.")
]
JobsPerMinute = Annotated[
    int, number(help_="Most jobs submitted in a minute; default: CONSERVER_API_JOBS_PER_MINUTE.")
]
BytesPerDay = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        show_default=False,
        help="Most bytes sent in a day, such as 10G; default: CONSERVER_API_BYTES_PER_DAY.",
    ),
]

app = typer_app("Tokens of the HTTP API: add, list, revoke.")


@app.command(epilog=examples("token add shop --role submit --list calls"))
def add(
    name: TokenName,
    roles: Annotated[
        list[str],
        typer.Option("--role", "-r", metavar="ROLE", help="submit, read, operate or admin."),
    ],
    lists: Annotated[
        list[str] | None,
        typer.Option("--list", "-l", metavar="NAME", help="Only for this list; else for all."),
    ] = None,
    jobs_at_once: JobsAtOnce = 0,
    jobs_per_minute: JobsPerMinute = 0,
    bytes_per_day: BytesPerDay = "0",
    file: TokensFile = "",
    json: AsJson = False,
) -> int:
    """Make a token and print it, once. Only its SHA-256 is stored."""
    output = Output(as_json=json)
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
            lists or [],
            jobs_at_once=jobs_at_once,
            bytes_per_day=size,
            jobs_per_minute=jobs_per_minute,
        )
    except ValueError as error:
        raise InvalidArgumentError("role", str(error)) from None
    except OSError as error:
        raise _unusable(path, error) from None
    if json:
        # Output.value would hide the token.
        output.raw(f'{{"name": "{name}", "token": "{text}"}}\n'.encode())
    else:
        output.raw(f"{text}\n".encode())
    note(f"this is the only time that it is shown; {_RESTART}")
    return 0


@app.command("list")
def list_(file: TokensFile = "", json: AsJson = False) -> int:
    """List the tokens: names, roles, lists, limits."""
    output = Output(as_json=json)
    found = tokens.load(_path(file))
    output.value(
        [
            {
                "name": one.name,
                "roles": one.roles,
                "lists": one.lists,
                "created_at": one.created_at or None,
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


@app.command()
def revoke(name: TokenName, file: TokensFile = "", json: AsJson = False) -> int:
    """Revoke a token."""
    output = Output(as_json=json)
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
