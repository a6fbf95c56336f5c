"""`conserver check`: prints every mistake in settings, configuration, links and storages.

Its exit code is 78 if something is wrong or a server refuses the login, and 69 if a server is away.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from conserver.cli.arguments import AsJson, ConfigFile, examples, typer_app
from conserver.cli.environment import load_settings
from conserver.cli.output import Output, note
from conserver.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, ConfigError
from conserver.operations import check as checks
from conserver.operations.check import Checked

app = typer_app()


@app.command(epilog=examples("check --config config.yml", "check --connect --json"))
def check(
    config: ConfigFile = "",
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask Redis and every storage, too.")
    ] = False,
    json: AsJson = False,
) -> int:
    """Check settings, configuration, links and storages."""
    output = Output(as_json=json)
    source = ""
    try:
        found = load_settings(config)
        source = found.config_file
        checked = checks.check(found, os.environ, connect=connect)
    except ConfigError as error:
        checked = checks.check_environment(os.environ, error)
    output.value(asdict(checked))
    _show(output, source, checked)
    if checked.problems or any(connection.refused for connection in checked.connections):
        return EXIT_CONFIG
    return 0 if checked.ok else EXIT_UNAVAILABLE


def _show(output: Output, source: str, checked: Checked) -> None:
    if output.as_json:
        return
    for warning in checked.warnings:
        note(f"warning: {warning}")
    for problem in checked.problems:
        note(f"error: {problem}")
    for connection in checked.connections:
        line = f"{connection.name}: {connection.message} ({connection.duration_ms:.0f} ms)"
        if connection.ok:
            output.line(line)
        else:
            note(f"error: {line}")
    if not checked.ok:
        note(f"{source or 'settings'}: {_faults(checked)}")
        return
    for name, lists in checked.chains.items():
        output.line(f"chain {name} serves {', '.join(lists)}")
    warned = f", with {_count(len(checked.warnings), 'warning')}" if checked.warnings else ""
    in_order = "everything is in order" if checked.chains else _NOTHING_SERVED
    output.line(f"{in_order}{warned}: {source}")


_NOTHING_SERVED = "nothing is wrong, but no list would be served"


def _faults(checked: Checked) -> str:
    refused = sum(1 for connection in checked.connections if connection.refused)
    away = sum(1 for connection in checked.connections if not connection.ok) - refused
    parts = [
        _count(len(checked.problems), "error") if checked.problems else "",
        f"{_count(refused, 'server')} refuses us" if refused else "",
        f"{_count(away, 'server')} cannot be used" if away else "",
    ]
    return ", ".join(part for part in parts if part)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
