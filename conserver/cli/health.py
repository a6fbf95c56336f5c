"""`conserver health`: does this machine consume?

Alive is not enough: a supervisor whose workers all wait for their next start is alive. Healthy is a
host of this machine's name that has beaten within its lease, serves lists, does not drain, and has
a worker that claims. Made for compose and Kubernetes, which ask every few seconds.
"""

from __future__ import annotations

import socket

from conserver.cli.base import Output, load_settings, note, redis_client
from conserver.cli.hosts import Host, read_hosts
from conserver.errors import EXIT_FAILURE

_TIMEOUT_S = 2.0


def health(output: Output) -> int:
    """Returns 0 if this machine consumes, 1 if not, 69 if Redis cannot be asked."""
    name = socket.gethostname()
    with redis_client(load_settings(), _TIMEOUT_S) as client:
        hosts = [host for host in read_hosts(client) if host.name == name]
    healthy = any(host.consumes for host in hosts)
    reason = "" if healthy else "; ".join(_reason(host) for host in hosts) or "it runs nothing"
    output.value({"healthy": healthy, "host": name, "reason": reason})
    if not healthy:
        note(f"{name} does not consume: {reason}")
        return EXIT_FAILURE
    output.line(f"{name} consumes")
    return 0


def _reason(host: Host) -> str:
    if not host.beats:
        return f"its last beat is {host.beat_age_s:.0f} s old"
    if host.state != "running":
        return f"it is {host.state}"
    if not host.lists:
        return "it serves no lists: its configuration has no enabled chain"
    states = ", ".join(str(worker.get("state")) for worker in host.workers)
    return f"its workers are {states}" if states else "it has no workers"
