"""/v1/jobs: hand in work, ask how far it is, cancel it."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import nullcontext, suppress
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from conserver.http.api import (
    bodies,
    etags,
    idempotency,
    multipart,
    offers,
    openapi,
    recordings,
    submitting,
)
from conserver.http.api.auth import requires, token_of
from conserver.http.api.context import Context, context_of
from conserver.http.api.incoming import Incoming
from conserver.http.api.multipart import Form
from conserver.http.api.problems import ProblemError, invalid
from conserver.http.api.shapes import JobView, job_view
from conserver.http.api.submitting import POLL_S, Wish
from conserver.http.api.subscriptions import TooManyListenersError
from conserver.operations import jobs as operations
from conserver.operations.tokens import Token
from conserver.outbound.callback import Callback, Format
from conserver.outbound.uploads import Upload
from conserver.queue import jobs
from conserver.queue.jobs import Job
from conserver.vcon.media import is_document

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

WAIT_S_MAX = 60.0
LIST_LIMIT_MAX = 1000
_FORM_TEXTS = (
    "list",
    "job_id",
    "not_before",
    "priority",
    "upload_presigned_url",
    "response_format",
)
_FORM_OBJECTS = ("meta", "callback")


class NewJob(BaseModel):
    """What is to be done: with one of vcon, uuid, url and upload."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"list": "calls", "url": "https://example.com/call.wav"}},
    )

    list: str
    vcon: dict[str, Any] | None = Field(None, description="A document.")
    uuid: str | None = Field(None, description="Of a document that is stored already.")
    url: str | None = Field(None, description="Of a recording that a worker fetches.")
    upload: str | None = Field(None, description="The id of an upload.")
    mediatype: str = Field("", description="Of the recording at `url`.")
    job_id: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="An id of your own.")
    not_before: datetime | None = Field(None, description="When it may run; with a time zone.")
    priority: Literal["", "high", "normal", "low"] = Field(
        "", description="Of the chain's `priorities`, which say the list."
    )
    meta: dict[str, Any] | None = Field(None, description="Kept in a recording's vCon.")
    callback: Callback | None = Field(None, description="Where the end of the job is told.")
    upload_presigned_url: str | None = Field(None, description="Gets the result by PUT.")
    response_format: Format = Field("json", description="What `upload_presigned_url` gets.")

    @model_validator(mode="after")
    def _one_callback(self) -> Self:
        if self.callback is not None and self.upload_presigned_url is not None:
            raise ValueError("a job has one of callback and upload_presigned_url")
        return self

    @property
    def told(self) -> Callback | None:
        """Where its end is told. Raises pydantic.ValidationError."""
        if self.upload_presigned_url is not None:
            return Callback.presigned(self.upload_presigned_url, self.response_format)
        return self.callback


@router.post(
    "",
    status_code=202,
    summary="Hand in work",
    responses={
        202: {"model": JobView, "headers": {"Location": {"schema": {"type": "string"}}}},
        200: {"model": JobView, "description": "The same request has made it before"},
        409: {"description": "Another submission has this job id"},
        410: {"description": "The job of this Idempotency-Key has expired"},
        413: {"description": "Too large"},
        422: {"description": "No vCon, not one source, or a key used with another request"},
        503: {"description": "The list is full, or Redis is"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": openapi.schema_of(NewJob)},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file", "list"],
                        "properties": {
                            "file": {"type": "string", "format": "binary"},
                            "list": {"type": "string"},
                            "job_id": {"type": "string"},
                            "not_before": {"type": "string", "format": "date-time"},
                            "priority": {"type": "string", "enum": ["high", "normal", "low"]},
                            "meta": {"type": "string", "description": "A JSON object"},
                            "callback": {"type": "string", "description": "A JSON object"},
                            "upload_presigned_url": {"type": "string"},
                            "response_format": {"type": "string"},
                        },
                    }
                },
            },
        }
    },
)
async def submit(
    request: Request, token: Annotated[Token, Depends(requires("submit"))]
) -> Response:
    """Takes a vCon, the uuid of one or a recording (a form, an upload, an address), and queues it.

    The answer comes as soon as the work is safe in the queue. With an `Idempotency-Key` the same
    request may be sent again: it gets the same job.
    """
    return await hand_in(request, token)


async def hand_in(request: Request, token: Token, usual: str = "") -> Response:
    """`submit`, also for documents alone.

    Args:
        usual: the list where the request names none, for what must be a document; "" where a
            request must name it and may hand in anything.
    """
    context = context_of(request)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await _hand_in_form(request, context, token, usual)
    limit = context.settings.max_document_bytes + bodies.JSON_BYTES_MAX
    raw = await bodies.whole(request, limit)
    wanted = _wanted(raw, usual)
    if usual:
        await _check_document(context, wanted, None)
    document = bodies.member_of(raw, "vcon") if wanted.vcon is not None else b""
    source = hashlib.sha256(raw).hexdigest()
    return submitting.answer(request, *await _submitted(request, token, wanted, document, source))


async def _hand_in_form(request: Request, context: Context, token: Token, usual: str) -> Response:

    def look(form: Form) -> None:
        """Refuse a wrong list before the file has come, where it is named first."""
        if name := form.one("list"):
            submitting.known_list(context, token, name)

    async with multipart.received(request, context, token.name, look) as form:
        upload = form.upload
        if upload is None or upload.bytes == 0:
            raise ProblemError(422, "the form holds no file, or an empty one: `file`", "no-file")
        wanted, source = _wanted_of(form, upload, usual)
        if usual:
            await _check_document(context, wanted, upload)
        job, made = await _submitted(request, token, wanted, b"", source, form.file)
    return submitting.answer(request, job, made)


async def _submitted(
    request: Request,
    token: Token,
    wanted: NewJob,
    document: bytes,
    source: str,
    file: Incoming | None = None,
) -> tuple[Job, bool]:
    """The job, and whether it was made now.

    Args:
        document: the vCon as it was sent; b"" for none.
        source: what tells this request from others.
        file: what came with the form; None for no form.
    """
    context, upload = context_of(request), file.upload if file else None
    name = submitting.prioritised_list(context, token, wanted.list, wanted.priority)
    sources = (wanted.vcon, wanted.uuid, wanted.url, wanted.upload, upload)
    if sum(one is not None for one in sources) != 1:
        raise ProblemError(422, "a job has one of vcon, uuid, url and upload", "one-source")
    due_ms = submitting.due_ms(wanted.not_before)
    callback = _callback(wanted)
    submitting.check_callback(context, callback)
    key, job = request.headers.get("idempotency-key", "").strip().strip('"'), wanted.job_id
    if key:
        job = await idempotency.claim(context.redis, token.name, key, source, job)
    if job and (known := await submitting.replayed(context, token, job, source)):
        return known, False
    fields = [("source", source)] if job else []
    large = file if upload is not None and recordings.stays(context, upload) else None
    async with context.handing_over if file else nullcontext():
        uuid, body, used = await _document(context, wanted, document, file)
        if used is not None and recordings.stays(context, used):
            recordings.check_kept(context, used, due_ms)
        wish = Wish(name, uuid, body, job, due_ms, fields, callback, file=large)
        found, made = await submitting.submit(context, token, wish)
    if key:
        await idempotency.keep(context.redis, token.name, key, source, found.id)
    if made and used is not None and upload is None and not recordings.stays(context, used):
        await context.transfer(context.uploads.remove, used.id)
    return found, made


def _callback(wanted: NewJob) -> Callback | None:
    """Where its end is told. Raises ProblemError: 422."""
    try:
        return wanted.told
    except ValidationError as error:
        raise invalid(error, "upload_presigned_url") from None


async def _check_document(context: Context, wanted: NewJob, upload: Upload | None) -> None:
    """Raises ProblemError: 415 for what is no document by its labels, 422 for no source of one."""
    if upload is None and wanted.upload is None and wanted.url is None:
        raise ProblemError(422, "a document has one of url, upload and a form", "one-source")
    if upload is None and wanted.upload is not None:
        upload = await offers.complete(context, wanted.upload)
        if upload is None:
            return  # The one who takes it says so.
    if upload is not None:
        labels = {"mediatype": upload.mediatype, "filename": upload.filename}
    else:
        labels = {
            "mediatype": wanted.mediatype,
            "filename": recordings.name_in_url(wanted.url or ""),
        }
    if not is_document(labels):
        raise ProblemError(
            415,
            "send a PDF, a picture (PNG, JPEG, TIFF, WebP, BMP, GIF), a docx or an odt, and its"
            " media type or a file name with its suffix",
            "no-document",
        )


def _wanted(raw: bytes, usual: str) -> NewJob:
    try:
        found = orjson.loads(raw)
        if usual and isinstance(found, dict):
            found = {"list": usual, **found}
        return NewJob.model_validate(found)
    except orjson.JSONDecodeError as error:
        raise ProblemError(422, f"the body is not JSON: {error}", "not-json") from None
    except ValidationError as error:
        raise invalid(error) from None


def _wanted_of(form: Form, upload: Upload, usual: str) -> tuple[NewJob, str]:
    """What a form asks for, and what tells it from others: their boundaries do not.

    Raises:
        ProblemError: 422.
    """
    given = {name: form.one(name) for name in _FORM_TEXTS if form.one(name)}
    usually = {"list": usual} if usual else {}
    try:
        objects = {name: orjson.loads(form.one(name)) for name in _FORM_OBJECTS if form.one(name)}
        wanted = NewJob.model_validate({**usually, **given, **objects})
    except ValidationError as error:
        raise invalid(error) from None
    except orjson.JSONDecodeError:
        what = " and ".join(_FORM_OBJECTS)
        raise ProblemError(422, f"{what} are JSON objects", "invalid") from None
    told = orjson.dumps([upload.sha512, upload.filename, upload.mediatype, given, objects])
    return wanted, hashlib.sha256(told).hexdigest()


async def _document(
    context: Context, wanted: NewJob, sent: bytes, file: Incoming | None
) -> tuple[str, bytes, Upload | None]:
    """The uuid, the document to store (b"" where it is stored already), and the upload in it."""
    if wanted.vcon is not None:
        _dumped(wanted.vcon)
        return submitting.uuid_of(context, sent), sent, None
    if wanted.uuid is not None:
        return submitting.check_uuid(wanted.uuid), b"", None
    _dumped(wanted.meta)
    if wanted.url is not None:
        if not wanted.url.startswith(("https://", "http://")):
            raise ProblemError(422, "url: must begin with https:// or http://", "invalid")
        return *recordings.vcon_of_url(wanted.url, wanted.mediatype, wanted.meta), None
    found, content = (file.upload, file.body) if file else (None, None)
    if found is None:
        found = await offers.complete(context, wanted.upload or "")
        if found is None:
            raise ProblemError(404, "there is no complete upload of that id", "upload-unknown")
    try:
        made = await recordings.vcon_of_upload(context, found, content, meta=wanted.meta)
    except FileNotFoundError:  # Another request has used it, or its time was over.
        raise ProblemError(
            404, "there is no complete upload of that id", "upload-unknown"
        ) from None
    return *made, found


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:  # It writes fewer levels than it reads.
        raise ProblemError(422, f"this cannot be stored as JSON: {error}", "invalid") from None


class JobPage(BaseModel):
    """Some jobs. next: the cursor of the next page; none where this is the last."""

    jobs: list[JobView]
    next: str | None


@router.get("", summary="List jobs, newest first")
def list_jobs(
    request: Request,
    token: Annotated[Token, Depends(token_of)],
    name: Annotated[str, Query(alias="list", description="Only of this list")] = "",
    status: Annotated[str, Query(description="Only with this status")] = "",
    cursor: Annotated[
        str, Query(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="`next` of the page before")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=LIST_LIMIT_MAX)] = 100,
) -> JobPage:
    """The latest 100,000 jobs are listed; one that has expired is left out. Jobs that arrive
    between two pages repeat none.
    """
    context = context_of(request)
    if status and status not in jobs.STATUSES:
        raise ProblemError(422, f"status: is one of {', '.join(jobs.STATUSES)}", "invalid")
    with context.client() as client:
        page = operations.page(
            client,
            name=name,
            status=status,
            after=cursor,
            limit=limit,
            allowed=lambda job: submitting.may_see(token, job),
        )
    base = request.scope.get("root_path", "")
    return JobPage(jobs=[job_view(job, base) for job in page.jobs], next=page.after or None)


@router.get(
    "/{job}",
    summary="How far a job is",
    response_model=JobView,
    responses={304: {"description": "Nothing has changed since that ETag"}, 404: {}},
)
async def show(
    request: Request,
    job: str,
    token: Annotated[Token, Depends(token_of)],
    wait: Annotated[
        float, Query(ge=0, le=WAIT_S_MAX, description="Seconds to wait for its end")
    ] = 0,
) -> Response:
    """With `wait` the answer comes as soon as the job has ended, or after that time."""
    context = context_of(request)
    found = await submitting.visible_job(context, token, job)
    if wait and not found.ended:
        found = await _wait(context, token, found, wait)
    tag = f'"{found.seq}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if not found.ended:
        headers["Retry-After"] = str(POLL_S)
    if etags.matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    view = job_view(found, request.scope.get("root_path", ""))
    return Response(view.model_dump_json(), 200, headers, "application/json")


async def _wait(context: Context, token: Token, job: Job, wait_s: float) -> Job:
    """The job at its end, or as it is after `wait_s`, or when the process stops."""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s), context.subscriptions.listen(job.id) as changed:
                while not job.ended and not context.subscriptions.closing:
                    await changed.wait()
                    changed.clear()
                    job = await submitting.visible_job(context, token, job.id)
    except TooManyListenersError:
        return job  # It polls.
    return job


@router.delete(
    "/{job}",
    summary="Cancel a job",
    response_model=JobView,
    responses={404: {}, 409: {"description": "It has ended already"}},
)
async def cancel(
    request: Request, job: str, token: Annotated[Token, Depends(token_of)]
) -> Response:
    """Takes it out of the queue; what runs stops at its next link, or within its link where that
    asks. Needs the role `operate`, or `submit` for a job of its own.
    """
    context = context_of(request)
    found = await submitting.visible_job(context, token, job)
    if not (token.may("operate") or (token.may("submit") and found.by == token.name)):
        raise ProblemError(403, "to cancel another's job needs the role `operate`", "role-missing")
    if found.ended:
        raise ProblemError(409, f"the job has ended already: {found.status}", "job-ended")
    await asyncio.to_thread(_cancel, context, found, token.name)
    again = await submitting.visible_job(context, token, job)
    view = job_view(again, request.scope.get("root_path", ""))
    return Response(view.model_dump_json(), 202, {}, "application/json")


def _cancel(context: Context, job: Job, actor: str) -> None:
    with context.client() as client:
        operations.cancel(
            client,
            job.id,
            actor=actor,
            configured=context.config.ingress,
            keep_s=context.settings.orphan_expiry_s,
        )
