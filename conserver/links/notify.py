"""notify: sends the end of a job to the job's callback.

It is the only link of a built-in chain (config/notifications.py), with which every host serves the
list conserver:notifications. It sends one request:

    presigned URL   PUT of the result in the format that was asked for, or of {"error": ...}
    webhook         POST of {"type": "job.completed", "timestamp": ..., "data": ...}, signed as in
                    Standard Webhooks 1.0; with the result in it if a format was asked for

A 2xx answer is success. Redirects are not followed. 403 and 410 dead-letter the notification, and
so does a presigned URL that has expired. After any other failure the notification is parked and
sent again, up to `tries` times; the wait is the receiver's Retry-After, if it sends one. Then the
notification becomes a dead letter. Messages show the callback's URL without its query.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from conserver.errors import ConserverError, Rejected, Retry
from conserver.links import LinkContext
from conserver.outbound import send as outbound
from conserver.outbound import signing
from conserver.outbound.callback import Callback
from conserver.outbound.endpoint import retry_after_s
from conserver.outbound.event import WITH_RESULT, Event, Notification, iso
from conserver.outbound.faults import FailedAttemptError
from conserver.outbound.send import Answer, Limits, UnreachableError
from conserver.process import backoff
from conserver.vcon.document import Vcon
from conserver.vcon.document_result import document_result

FINAL = frozenset({403, 410})
_EXCERPT_CHARS = 300
_BACKOFF_MAX_S = 3600.0
_JSON = "application/json"


class Options(BaseModel):
    """Time limits of a request, the number of tries, and the secrets that sign webhooks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_timeout_s: float = Field(default=30, gt=0)
    read_timeout_s: float = Field(default=120, gt=0)
    write_timeout_s: float = Field(default=120, gt=0)
    pool_timeout_s: float = Field(default=10, gt=0)
    timeout_s: float = Field(default=600, gt=0)
    tries: int = Field(default=3, ge=1)
    backoff_s: float = Field(default=5, gt=0)
    allow_private_addresses: bool = False
    secret: SecretStr = SecretStr("")
    secret_file: str = ""

    @property
    def limits(self) -> Limits:
        """The limits of one request."""
        return Limits(
            connect_s=self.connect_timeout_s,
            read_s=self.read_timeout_s,
            write_s=self.write_timeout_s,
            pool_s=self.pool_timeout_s,
            total_s=self.timeout_s,
            allow_private_addresses=self.allow_private_addresses,
        )


class NotificationContext(LinkContext, Protocol):
    """A LinkContext with the notification, which the worker has read before."""

    notification: Notification | None


class NoResultError(ConserverError):
    """The vCon holds no result in the form that was asked for."""


def run(vcon: Vcon, options: Options, context: NotificationContext) -> Vcon:
    """Send the notification once. Raises Retry, Rejected, or FailedAttemptError (last try)."""
    told = context.notification
    if told is None:
        raise Rejected("this is no end of a job, which is all that is delivered")
    callback = told.callback
    if callback is None:
        raise Rejected(
            f"the callback of the job {told.event.job} is not known any more: jobs are kept for "
            "CONSERVER_JOB_MAX_S"
        )
    method = "PUT" if callback.kind == "put" else "POST"
    where = f"{method} {callback.shown}"
    _check_expiry(callback, where)
    headers, body = _put(told, callback) if method == "PUT" else _webhook(told, callback, options)
    began_s = time.monotonic()
    try:
        url = callback.url.get_secret_value()
        answer = outbound.send(method, url, headers, body, options.limits, context)
    except UnreachableError as error:
        raise _again(callback.hide(str(error)), None, options, context) from None
    if not 200 <= answer.status < 300:
        problem = f"{where}: HTTP {answer.status}: {_excerpt(answer, callback)}"
        if answer.status in FINAL:
            raise Rejected(problem)
        raise _again(problem, retry_after_s(answer.headers), options, context)
    context.log.info(
        "delivered",
        job=told.event.job,
        status=told.event.status,
        to=callback.shown,
        answer=answer.status,
        attempt=context.attempt,
        duration_ms=round((time.monotonic() - began_s) * 1000, 2),
    )
    return vcon


def _check_expiry(callback: Callback, where: str) -> None:
    until_s = callback.expires_at
    if until_s is not None and until_s <= time.time():
        at = iso(int(until_s * 1000))
        raise Rejected(f"{where}: the presigned URL has expired at {at}: nothing was sent")


def _again(
    problem: str, asked_s: float | None, options: Options, context: LinkContext
) -> ConserverError:
    """The exception to raise after a failed try."""
    if context.attempt >= options.tries:
        return FailedAttemptError(f"{problem} (tried {context.attempt} times)")
    wait_s = backoff.backoff_s(context.attempt, options.backoff_s, _BACKOFF_MAX_S)
    return Retry(wait_s if asked_s is None else max(asked_s, 1.0), problem)


def _excerpt(answer: Answer, callback: Callback) -> str:
    """The beginning of the receiver's answer, on one line, without the URL's signature (S3 quotes
    it)."""
    text = callback.hide(" ".join(answer.text.split()))
    return text[:_EXCERPT_CHARS] or "no text"


# ---- what is sent --------------------------------------------------------------------------------


def _put(told: Notification, callback: Callback) -> tuple[dict[str, str], bytes]:
    """The headers and the content for a presigned URL: the result, or why there is none."""
    event, wanted = told.event, callback.result_format
    assert wanted is not None
    body, kind = b"", _JSON
    error = _error_of(event)
    if error is None:
        try:
            body, kind = _result(told.document, wanted)
        except NoResultError as problem:
            error = {"type": "no_result", "message": str(problem)}
    if error is not None:
        body, kind = orjson.dumps({**_data(event), "error": error}), _JSON
    headers = callback.own_headers()
    if not callback.signs_content_type:
        headers.setdefault("content-type", kind)
    return headers, body


def _webhook(
    told: Notification, callback: Callback, options: Options
) -> tuple[dict[str, str], bytes]:
    """The headers and the content of a signed webhook."""
    event = told.event
    data: dict[str, Any] = {**_data(event), "error": _error_of(event)}
    if callback.format is not None and event.status in WITH_RESULT:
        data["format"] = callback.format
        try:
            result, kind = _result(told.document, callback.format)
            data["result"] = orjson.Fragment(result) if kind == _JSON else result.decode()
        except NoResultError as problem:
            data["result"], data["result_error"] = None, str(problem)
    body = orjson.dumps(
        {"type": f"job.{event.status}", "timestamp": iso(event.ended_ms), "data": data}
    )
    stamp = str(int(time.time()))
    headers = callback.own_headers()
    headers.setdefault("content-type", _JSON)
    headers["webhook-id"], headers["webhook-timestamp"] = event.id, stamp
    secrets = _secrets(callback, options)
    headers["webhook-signature"] = signing.signature(secrets, event.id, stamp, body)
    return headers, body


def _secrets(callback: Callback, options: Options) -> list[str]:
    """The secrets that sign the webhook. Raises Retry if this host lacks them: another host may
    have them."""
    try:
        found = signing.secrets_of(options.secret.get_secret_value(), options.secret_file)
    except (ValueError, OSError) as error:
        raise Retry(None, f"the secrets of webhooks cannot be read: {error}") from None
    if callback.key not in found:
        name = f"no secret named {callback.key}" if callback.key else "no secret"
        raise Retry(
            None,
            f"this host has {name}: CONSERVER_WEBHOOK_SECRET and CONSERVER_WEBHOOK_SECRET_FILE are"
            " the same on all hosts",
        )
    return list(found[callback.key])


def _data(event: Event) -> dict[str, Any]:
    return {
        "job_id": event.job,
        "status": event.status,
        "list": event.list,
        "uuid": event.uuid,
        "created_at": iso(event.created_ms),
        "ended_at": iso(event.ended_ms),
    }


def _error_of(event: Event) -> dict[str, Any] | None:
    """Why a job has no result; None if the job ended with one."""
    if event.status in WITH_RESULT:
        return None
    if event.status == "cancelled":
        return {"type": "cancelled", "message": "the job was cancelled"}
    error = event.error
    return {
        "type": str(error.get("type") or error.get("reason") or "failed"),
        "message": str(error.get("error") or "it failed, and nothing says why"),
        "reason": str(error.get("reason") or "failed"),
        "where": str(error.get("link") or error.get("storage") or ""),
        "attempts": error.get("attempts", 0),
    }


def _result(document: bytes, wanted: str) -> tuple[bytes, str]:
    """The result in a vCon and its media type. Raises NoResultError."""
    if not document:
        raise NoResultError("the vCon of the job is gone")
    if wanted == "vcon":
        return document, _JSON
    # Imported here: most workers never deliver a transcript.
    from conserver.media.transcription import formats
    from conserver.media.transcription.transcript import transcript_of

    vcon = orjson.loads(document)
    found = transcript_of(vcon)
    if found is None:
        if (text := document_result(vcon, wanted)) is not None:
            return text, formats.MEDIA_TYPES[wanted]
        raise NoResultError("the vCon of the job holds no transcript")
    try:
        return formats.render(found, wanted).encode(), formats.MEDIA_TYPES[wanted]
    except formats.NoTimesError as error:
        raise NoResultError(str(error)) from None
