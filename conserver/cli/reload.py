"""`conserver reload`: all hosts read their configuration again; prints the result of each host."""

from __future__ import annotations

from dataclasses import asdict

from conserver.cli.environment import actor, load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.cli.tables import Marked, Style
from conserver.errors import EXIT_FAILURE
from conserver.operations import reload as operation

_STYLES: dict[str, Style] = {"reloaded": "good", "refused": "bad", "silent": "bad"}


def reload(output: Output, *, timeout_s: float) -> int:
    """Asks every host that beats, and waits for their answers.

    Returns:
        0 if all have reloaded; 1 if one refused, or did not answer within `timeout_s`.
    """
    with redis_client(load_settings()) as client:
        request = operation.ask(client, actor=actor())
        found = operation.wait(client, request, timeout_s=timeout_s)
    output.value([asdict(one) for one in found])
    rows = [
        (one.name, one.id, Marked(one.status, _STYLES.get(one.status, "")), one.reason)
        for one in found
    ]
    output.table(("host", "id", "status", "reason"), rows, none="no host is left")
    if any(one.status == "asked" for one in found):
        note(f"a host has not answered within {timeout_s:g} s; its log tells more")
    return 0 if all(one.status == "reloaded" for one in found) else EXIT_FAILURE
