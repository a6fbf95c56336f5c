"""Parses the hash of a job.

A job is one submission that somebody follows. Only scripts write its hash, conserver:job:<job>
(prelude.lua). The script that ends an item also ends its job. The fields of the hash:

    list, uuid       the list on which the item was pushed; the item's vCon
    status           queued, processing, waiting; or an end: completed, filtered, cancelled, failed
    seq              number of the latest change; the scripts publish every change on
                     conserver:events:<job> as "<seq> <status>"
    created_ms, updated_ms
    keep_s, max_s    how long the hash is kept after the job's end, and at most
    link, progress   the link that runs, and {"done", "total", "unit"} as JSON; they may be late
    attempts         how many runs of the chain were unsuccessful, as of the latest hint (hint.lua);
                     `error` has the number as of the latest park or dead letter
    retry_at_ms      when a waiting item is due
    error            JSON: why the job failed ({"reason", "link" | "storage", "error", ...}), or
                     the thing that its item waits for. It stays when the item goes on
    by               the name of the API token that submitted the job
    counted          the same name, if the token may have only so many unfinished jobs (submit.lua)
    callback         who is notified of the job's end (outbound/callback.py); it contains secrets,
                     and is never shown
    callback_on      the ends that cause a notification, separated by spaces
    callback_until_ms     when the presigned URL of the callback expires
    notification          whether the callback was notified: queued, delivered, failed
    notification_seq      the number of the change that the notification reports
    notification_error    why the notification failed, as JSON
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from conserver.errors import with_type
from conserver.telemetry.redact import redact_texts

ENDS = frozenset({"completed", "filtered", "cancelled", "failed"})
STATUSES = ("queued", "processing", "waiting", "completed", "filtered", "cancelled", "failed")


ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def new_id() -> str:
    """A new job's id: 27 hexadecimal digits, first 11 of the time in ms, then 16 random ones."""
    return f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as its hash was when it was read. Times are seconds since 1970; 0 for none.

    attempts: unsuccessful runs of the chain. progress: {"done", "total", "unit"}, or empty. error:
    why the job failed, or the thing that its item waits for; empty with any other status. Secrets
    are removed from error and notification_error.
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
    """Further fields, which the submitter added."""

    @property
    def ended(self) -> bool:
        """Whether the job has ended. Only a requeue of its dead letter can change it then."""
        return self.status in ENDS

    @property
    def why(self) -> str:
        """`error` in one line; "" if it is empty."""
        error, storages = self.error, self.error.get("storages")
        if isinstance(storages, dict):
            return "; ".join(f"{name}: {reason}" for name, reason in storages.items())
        if error.get("rate"):
            return f"its rate, {error['rate']}"
        where = error.get("link") or error.get("storage") or error.get("key")
        text = str(error.get("error", "")).partition("\n")[0]
        return ": ".join(str(part) for part in (error.get("reason"), where, text) if part)


_OWN = frozenset(
    "list uuid status seq created_ms updated_ms keep_s max_s by counted link attempts progress "
    "error retry_at_ms notification notification_seq notification_error callback callback_on "
    "callback_until_ms".split()
)


def load(job: str, found: Mapping[bytes, bytes]) -> Job | None:
    """Parse the hash of a job; None if it has no status: the job is unknown, or has expired."""
    fields = {name.decode(): value.decode("utf-8", "replace") for name, value in found.items()}
    if "status" not in fields:
        return None
    error = _redacted(fields.get("error"))
    attempts = error.get("attempts")
    if "error" in error:
        error["error"] = with_type(str(error.get("type", "")), str(error["error"]))
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
        attempts=max(_number(fields.get("attempts")), attempts if isinstance(attempts, int) else 0),
        progress=_object(fields.get("progress")),
        error=error if fields["status"] in ("failed", "waiting") else {},
        retry_at=_number(fields.get("retry_at_ms")) / 1000,
        notification=fields.get("notification", ""),
        notification_error=_redacted(fields.get("notification_error")),
        fields={name: value for name, value in fields.items() if name not in _OWN},
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _redacted(text: str | None) -> dict[str, Any]:
    shown: Any = redact_texts(_object(text))
    return dict(shown)


def _object(text: str | None) -> dict[str, Any]:
    """Parse a JSON object; {} for any other text."""
    try:
        value = orjson.loads(text or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
