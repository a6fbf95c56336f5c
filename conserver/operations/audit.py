"""The audit list conserver:audit: one entry for each operation that changed something.

The list keeps the last 1000 entries. An entry is written after its operation, because it says what
was done. It may be missing: if Redis is read-only or away by then, the operation does not fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from conserver.operations.connection import Client
from conserver.queue import keys, script, wishes
from conserver.telemetry.redact import redact_texts

KEEP = 1000


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One operation.

    Attributes:
        at: seconds since the epoch, by the clock of the process that did it.
        actor: who asked for it: `user@host` for a command, or the name of an API token.
        action: the name of the operation, such as pause, requeue, cancel, reload or submit.
        target: what it changed, such as {"lists": [...]}, {"uuid": ...} or the fields of a filter.
        count: how many lists or items it changed.
    """

    at: float
    actor: str
    action: str
    target: Mapping[str, Any]
    count: int


def record(
    client: Client, actor: str, action: str, target: Mapping[str, object], count: int
) -> None:
    """Add an entry. If this process has a log, also log it as `operator_action`."""
    from redis.exceptions import RedisError

    from conserver.telemetry import log

    entry = AuditEntry(round(time.time(), 3), actor, action, target, count)
    if log.is_configured():
        fields = {"actor": actor, "action": action, "target": dict(target), "count": count}
        log.get_logger().info("operator_action", **fields)
    line = orjson.dumps(redact_texts(asdict(entry)), default=str)
    try:
        script.run(client, wishes.audit(line, KEEP))
    except RedisError as error:
        if log.is_configured():
            log.get_logger().warning("audit_entry_lost", action=action, error=str(error))


def recent(client: Client, count: int = 100) -> list[AuditEntry]:
    """The last entries, the newest first. Elements of other programs are left out."""
    lines: list[bytes] = client.lrange(keys.AUDIT, -count, -1) if count > 0 else []
    return list(_entries(reversed(lines)))


def latest_cancel(client: Client, uuid: str) -> AuditEntry | None:
    """The latest entry for a cancellation of a vCon; None if the list has none."""
    entries = (one for one in recent(client, KEEP) if one.action == "cancel")
    return next((one for one in entries if one.target.get("uuid") == uuid), None)


def _entries(lines: Iterator[bytes]) -> Iterator[AuditEntry]:
    for line in lines:
        try:
            yield AuditEntry(**orjson.loads(line))
        except (orjson.JSONDecodeError, TypeError):
            continue
