"""Asks hosts to reload their settings and configuration, and reads their answers.

A request is one field of `conserver:control` per host. The host's coordinator reads the field
within about a second. Then its supervisor reloads, as on SIGHUP, and the host's next beat has the
answer. If a host cannot use its new configuration, it refuses, and goes on with the present one;
other hosts are not affected.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal

from conserver.errors import OperationError
from conserver.operations import audit, hosts
from conserver.operations.connection import Client
from conserver.operations.hosts import Host
from conserver.queue import keys, wishes
from conserver.telemetry.redact import redact_text

LOOK_EVERY_S = 0.25

_REQUEST = re.compile("[0-9a-f]{11}-[0-9a-f]{8}")

Status = Literal["asked", "reloaded", "refused", "silent"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of one host to a request.

    Attributes:
        id, name: of the host.
        status: asked (no answer yet), reloaded, refused, or silent (no answer, and no heartbeat).
        at: when the host answered, in seconds since the epoch by its clock; None before that.
        reason: why the host refused.
    """

    id: str
    name: str
    status: Status
    at: float | None = None
    reason: str = ""


def ask(client: Client, *, actor: str, host: str = "") -> str:
    """Ask all living hosts, or only `host`, to reload. Returns the request's id, for `answers`.

    Raises:
        OperationError: "conflict": there is no living host, or `host` is not a living host.
    """
    living = [one for one in hosts.read(client) if one.beats]
    asked = [one for one in living if host in ("", one.id)]
    if not asked:
        raise OperationError("no host is running that could be asked to reload", "conflict")
    request = f"{time.time_ns() // 1_000_000:011x}-{secrets.token_hex(4)}"
    _forget_unread(client, {one.id for one in living})
    wishes.ask(client, keys.CONTROL, {keys.reload(one.id, request): actor for one in asked})
    target = {"hosts": [one.name for one in asked], "request": request}
    audit.record(client, actor, "reload", target, len(asked))
    return request


def answers(client: Client, request: str) -> list[Answer]:
    """The answers of all hosts that were running at the time of the request, sorted by name.

    Raises:
        OperationError: "not_found": `request` is no id of a request.
    """
    if not _REQUEST.fullmatch(request):
        raise OperationError(f"there is no reload `{request[:80]}`", "not_found")
    asked_at = asked_at_s(request)
    # A host that started later has read the new configuration at its start.
    return [_answer(one, request) for one in hosts.read(client) if one.started_at <= asked_at]


def asked_at_s(request: str) -> float:
    """When a request was made, in seconds since the epoch."""
    return int(request.partition("-")[0], 16) / 1000


def wait(client: Client, request: str, *, timeout_s: float) -> list[Answer]:
    """Wait until each host has answered or is silent, at most `timeout_s`. Returns the answers."""
    until_s = time.monotonic() + timeout_s
    while True:
        found = answers(client, request)
        left_s = until_s - time.monotonic()
        if left_s <= 0 or not any(one.status == "asked" for one in found):
            return found
        time.sleep(min(LOOK_EVERY_S, left_s))


def _answer(host: Host, request: str) -> Answer:
    last = host.supervisor.get("reload") or {}
    # Ids begin with their time. A host that has answered a later request has reloaded, too.
    if last.get("request", "") >= request:
        refused = redact_text(str(last.get("refused") or ""))
        return Answer(host.id, host.name, "refused" if refused else "reloaded", last["at"], refused)
    return Answer(host.id, host.name, "asked" if host.beats else "silent")


def _forget_unread(client: Client, living: set[str]) -> None:
    """Remove requests to hosts that died before they read them."""
    fields = [field.decode("utf-8", "replace") for field in client.hkeys(keys.CONTROL)]
    unread = [field for field in fields if _host_of(field) not in (None, *living)]
    if unread:
        client.hdel(keys.CONTROL, *unread)


def _host_of(field: str) -> str | None:
    kind, _, rest = field.partition(":")
    return rest.partition(":")[0] if kind == "reload" else None
