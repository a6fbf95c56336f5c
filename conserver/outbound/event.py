"""The end of a job, as a callback is told of it.

The Lua script that ends an item pushes a notification on the list conserver:notifications
(push_notification in prelude.lua). Its form is a document with the uuid of the job's vCon:

    {"vcon": "0.4.0", "uuid": ..., "notification": {"job", "seq", "status", "list", "created_ms",
                                                "ended_ms", "error"}}

It contains no secret: the worker that claims the notification reads the callback from the job's
hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from conserver.outbound.callback import Callback

WITH_RESULT = ("completed", "filtered")
"""The ends after which a vCon may hold a result."""


@dataclass(frozen=True, slots=True)
class Event:
    """The end of a job.

    Attributes:
        seq: the number of this change of the job. A job whose dead letter was requeued has several
            ends.
        uuid: the uuid of the job's vCon.
        error: why a job failed: reason, error, type, link or storage, attempts.
    """

    job: str
    seq: int
    status: str
    list: str
    uuid: str
    created_ms: int
    ended_ms: int
    error: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The `webhook-id`. It is the same for every try on every host, so that receivers recognize
        a repeated call."""
        name = hashlib.sha256(f"{self.job}\n{self.seq}".encode()).hexdigest()
        return f"msg_{name[:32]}"


@dataclass(frozen=True, slots=True)
class Notification:
    """An event, with the callback and the document that the link `notify` needs to send it.

    Attributes:
        callback: None if the job's hash has expired.
        document: the vCon; b"" if it has expired or is not needed.
    """

    event: Event
    callback: Callback | None
    document: bytes = b""

    @property
    def wants_document(self) -> bool:
        """Whether the callback gets a result, for which the vCon is needed."""
        wanted = self.callback is not None and self.callback.result_format is not None
        return wanted and self.event.status in WITH_RESULT


def parse(payload: bytes) -> Event:
    """The event in the payload of a notification. Raises ValueError if it holds none."""
    try:
        document = orjson.loads(payload)
        told = document["notification"]
        return Event(
            job=str(told["job"]),
            seq=int(told["seq"]),
            status=str(told["status"]),
            list=str(told["list"]),
            uuid=str(document["uuid"]),
            created_ms=int(told["created_ms"]),
            ended_ms=int(told["ended_ms"]),
            error=_object(told["error"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no notification: {error!r}") from None


def iso(at_ms: int) -> str:
    """A moment as ISO 8601 in UTC, to the millisecond."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def _object(text: Any) -> dict[str, Any]:
    """The JSON object in `text`; if it is something else, {"error": text}."""
    if not text:
        return {}
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        return {"error": str(text)}
    return value if isinstance(value, dict) else {"error": str(text)}
