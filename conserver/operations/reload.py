"""Lets a supervisor of this machine read its settings and configuration again."""

from __future__ import annotations

import os
import signal

from conserver.errors import OperationError
from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.queue import keys


def reload(client: Client, host: str, *, actor: str) -> None:
    """As a SIGHUP does: a configuration that cannot be used is refused, and the log says why.

    Args:
        host: the id of a supervisor on this machine.

    Raises:
        OperationError: "conflict": it has not told its pid yet, or has ended.
    """
    pid: bytes | None = client.hget(keys.host(host), "pid")
    if pid is None:
        raise OperationError("the supervisor has not told its pid yet", "conflict")
    try:
        os.kill(int(pid), signal.SIGHUP)
    except ProcessLookupError:
        raise OperationError("the supervisor has ended", "conflict") from None
    audit.record(client, actor, "reload", {"host": host}, 1)
