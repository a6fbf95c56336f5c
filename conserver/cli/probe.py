"""The work of `conserver health`: tells whether a host of this machine takes items.

Docker Compose and Kubernetes run it every few seconds, so it imports neither Typer nor Rich.
"""

from __future__ import annotations

import socket
from dataclasses import asdict

from conserver.cli.environment import load_settings, redis_client
from conserver.cli.output import Output, note
from conserver.errors import EXIT_FAILURE
from conserver.operations import hosts

_TIMEOUT_S = 2.0


def health(output: Output) -> int:
    """Returns 0 if a host of this machine takes items, 1 if not, 69 if Redis cannot be asked."""
    with redis_client(load_settings(), _TIMEOUT_S) as client:
        found = hosts.health(client, socket.gethostname())
    output.value(asdict(found))
    if not found.healthy:
        note(f"{found.host} does not consume: {found.reason}")
        return EXIT_FAILURE
    output.line(f"{found.host} consumes")
    return 0
