"""`conserver reload`: all hosts read their configuration again; prints the result of each host.

Its exit code is 1 if a host refused, or did not answer in time.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from conserver.cli.arguments import AsJson, seconds, typer_app
from conserver.cli.environment import actor, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.cli.tables import Marked, Style
from conserver.errors import EXIT_FAILURE
from conserver.operations import reload as operation

_STYLES: dict[str, Style] = {"reloaded": "good", "refused": "bad", "silent": "bad"}

app = typer_app()


@app.command()
def reload(
    timeout: Annotated[float, seconds("--timeout", "How long to wait.")] = 30,
    json: AsJson = False,
) -> int:
    """Let all hosts read their configuration again.

    A SIGHUP does the same for one host. The command tells for each host whether it
    has reloaded.
    """
    output = Output(as_json=json)
    with redis_client(load_settings()) as client:
        request = operation.ask(client, actor=actor())
        found = operation.wait(client, request, timeout_s=timeout)
    output.value([asdict(one) for one in found])
    rows = [
        (one.name, one.id, Marked(one.status, _STYLES.get(one.status, "")), one.reason)
        for one in found
    ]
    output.table(("host", "id", "status", "reason"), rows, none="no host is left")
    if any(one.status == "asked" for one in found):
        note(f"a host has not answered within {timeout:g} s; its log tells more")
    return 0 if all(one.status == "reloaded" for one in found) else EXIT_FAILURE
