"""`conserver drain`: pauses all lists and waits until nothing is in flight.

Its exit code is 1 if items are still in flight when the time is over.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

from conserver.cli.arguments import AsJson, ConfigFile, examples, seconds, typer_app
from conserver.cli.environment import actor, configured_lists, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import lists
from conserver.operations.connection import Client
from conserver.operations.lists import Draining

app = typer_app()


@app.command(epilog=examples("drain --timeout 60"))
def drain(
    config: ConfigFile = "",
    timeout: Annotated[float, seconds("--timeout", "How long to wait.")] = 600,
    json: AsJson = False,
) -> int:
    """Pause all lists and wait until nothing is in flight.

    `conserver resume` ends the pause.
    """
    output = Output(as_json=json)
    found = load_settings(config)
    configured = configured_lists(found)
    with redis_client(found) as client:
        try:
            last = _wait(client, configured, timeout)
        except KeyboardInterrupt:
            note("interrupted: all lists stay paused until `conserver resume`")
            raise
    output.value(asdict(last))
    if last.in_flight:
        note(f"{last.in_flight} still in flight; all lists stay paused until `conserver resume`")
        return EXIT_FAILURE
    output.line("nothing is in flight; all lists are paused until `conserver resume`")
    return 0


def _wait(client: Client, configured: list[str], timeout_s: float) -> Draining:
    """Pauses, waits, and prints the number of items in flight as it falls."""
    looks = lists.drain(client, configured, timeout_s=timeout_s, actor=actor())
    last = next(looks)
    if last.in_flight:
        left = f"{last.in_flight} in flight"
        note(f"all lists are paused; {left}: waiting for at most {timeout_s:g} s")
    for look in looks:
        if 0 < look.in_flight < last.in_flight and sys.stderr.isatty():
            note(f"{look.in_flight} in flight")
        last = look
    return last
