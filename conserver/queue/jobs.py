"""A job as a value: what its hash in Redis says, for everybody who shows it.

A job is one submission that somebody follows. Its hash, conserver:job:<job>, is written by scripts
alone (prelude.lua), its ends in the same step as the end of its item.

    list, uuid       where the item was pushed, and its vCon
    status           queued, processing, waiting; or an end: completed, filtered, cancelled, failed
    seq              number of its latest change; every change is published on
                     conserver:events:<job> as "<seq> <status>"
    created_ms, updated_ms
    keep_s, max_s    how long the hash is kept after an end, and at most
    link, progress   the link that runs, and {"done", "total", "unit"} as JSON; hints
    attempts         how many runs came to nothing
    retry_at_ms      when a waiting item is due
    error            JSON: why it failed ({"reason", "link" | "storage", "error", ...}), or what it
                     waits for
    by               the name of the token that submitted it
    counted          the same, where its jobs at once are limited (submit.lua)
    callback         where its end is told (outbound/callback.py): it has secrets and is never shown
    callback_on      the ends that are told, separated by spaces
    callback_until_ms  when a presigned URL expires
    notification         what became of that: queued, delivered, failed
    notification_seq, notification_error  of which change, and why it failed, as JSON
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from conserver.telemetry.redact import redact_texts

ENDS = frozenset({"completed", "filtered", "cancelled", "failed"})
STATUSES = ("queued", "processing", "waiting", "completed", "filtered", "cancelled", "failed")


ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def new_id() -> str:
    """A new job's id: 27 hexadecimal digits that sort by time, the last 16 of them by chance."""
    return f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as of the moment when its hash was read. Times are seconds since 1970; 0 for none.

    progress: {"done", "total", "unit"}, or nothing. error: why it failed, or what it waits for,
    without secrets, as in notification_error.
    """

    id: str
    list: str
    uuid: str
    status: str
    seq: int
    created_at: float
    updated_at: float
    by: str = ""
    link: str = ""
    attempts: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    retry_at: float = 0.0
    notification: str = ""
    notification_error: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    """Whatever else whoever made it has put there."""

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more (but for a replay of its dead letter)."""
        return self.status in ENDS


_OWN = frozenset(
    "list uuid status seq created_ms updated_ms keep_s max_s by counted link attempts progress "
    "error retry_at_ms notification notification_seq notification_error callback callback_on "
    "callback_until_ms".split()
)


def load(job: str, found: Mapping[bytes, bytes]) -> Job | None:
    """The job that a hash tells of; None for an empty one: it is not known (any more)."""
    fields = {name.decode(): value.decode("utf-8", "replace") for name, value in found.items()}
    if "status" not in fields:
        return None
    return Job(
        id=job,
        list=fields.get("list", ""),
        uuid=fields.get("uuid", ""),
        status=fields["status"],
        seq=_number(fields.get("seq")),
        created_at=_number(fields.get("created_ms")) / 1000,
        updated_at=_number(fields.get("updated_ms")) / 1000,
        by=fields.get("by", ""),
        link=fields.get("link", ""),
        attempts=_number(fields.get("attempts")),
        progress=_object(fields.get("progress")),
        error=_redacted(fields.get("error")),
        retry_at=_number(fields.get("retry_at_ms")) / 1000,
        notification=fields.get("notification", ""),
        notification_error=_redacted(fields.get("notification_error")),
        fields={name: value for name, value in fields.items() if name not in _OWN},
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _redacted(text: str | None) -> Mapping[str, Any]:
    shown: Any = redact_texts(_object(text))
    return dict(shown)


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object; nothing where somebody else has put something else there."""
    try:
        value = orjson.loads(text or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
