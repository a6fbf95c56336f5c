"""A new job: reads the request, and makes the vCon that the job is about.

jobs.py and documents.py have the routes. submitting.py puts the job into the queue.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from datetime import datetime
from typing import Any, Literal, Self

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from conserver.http.api import bodies, idempotency, multipart, offers, recordings, submitting
from conserver.http.api.context import Context, context_of
from conserver.http.api.incoming import Incoming
from conserver.http.api.multipart import Form
from conserver.http.api.problems import ProblemError, check_members, invalid
from conserver.http.api.submitting import Wish
from conserver.operations.tokens import Token
from conserver.outbound.callback import Callback, Format
from conserver.outbound.uploads import Upload
from conserver.queue.jobs import Job
from conserver.vcon.media import is_document

_FORM_TEXTS = (
    "list",
    "job_id",
    "not_before",
    "priority",
    "upload_presigned_url",
    "response_format",
)
_FORM_OBJECTS = ("meta", "callback")
_FORM_FIELDS = (*_FORM_TEXTS, *_FORM_OBJECTS)
"""The fields of a form beside its file."""


class NewJob(BaseModel):
    """A job to submit, with exactly one of vcon, uuid, url and upload."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"list": "calls", "url": "https://example.com/call.wav"}},
    )

    list: str
    vcon: dict[str, Any] | None = Field(None, description="A vCon.")
    uuid: str | None = Field(None, description="The uuid of a stored vCon.")
    url: str | None = Field(None, description="The URL of a recording, which a worker fetches.")
    upload: str | None = Field(None, description="The id of an upload.")
    mediatype: str = Field("", description="The type of the recording at `url`.")
    job_id: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="An id of your own.")
    not_before: datetime | None = Field(None, description="The earliest time, with a time zone.")
    priority: Literal["", "high", "normal", "low"] = Field(
        "", description="Chooses the list by the chain's `priorities`."
    )
    meta: dict[str, Any] | None = Field(None, description="Kept in a recording's vCon.")
    callback: Callback | None = Field(None, description="Is notified of the job's end.")
    upload_presigned_url: str | None = Field(None, description="Gets the result by PUT.")
    response_format: Format = Field("json", description="The format for `upload_presigned_url`.")

    @model_validator(mode="after")
    def _one_callback(self) -> Self:
        if self.callback is not None and self.upload_presigned_url is not None:
            raise ValueError("a job has one of callback and upload_presigned_url")
        return self

    @property
    def told(self) -> Callback | None:
        """The callback for the job's end, or None. Raises pydantic.ValidationError."""
        if self.upload_presigned_url is not None:
            return Callback.presigned(self.upload_presigned_url, self.response_format)
        return self.callback


async def hand_in(request: Request, token: Token, usual: str = "") -> Response:
    """Submit the job of a request, and answer with it.

    Args:
        usual: for requests that must submit a document (PDF, picture, ...): the list if the request
            names none. "": the request must name a list, and may submit anything.
    """
    context = context_of(request)
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
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
    """`hand_in` for a form with a file."""

    def look(form: Form) -> None:
        """Refuse wrong fields before the file is read, if they stand before it in the form."""
        check_members(form.fields, _FORM_FIELDS)
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
        document: the vCon as the client sent it; b"" for none.
        source: identifies the request's content, to recognize a repetition.
        file: the file of the form; None if the request is no form.
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
    """The callback for the job's end, or None. Raises ProblemError: 422."""
    try:
        return wanted.told
    except ValidationError as error:
        raise invalid(error, "upload_presigned_url") from None


async def _check_document(context: Context, wanted: NewJob, upload: Upload | None) -> None:
    """Check that the request submits a document, by media type and file name.

    Raises:
        ProblemError: 415: another kind of file; 422: neither a file, nor `url`, nor `upload`.
    """
    if upload is None and wanted.upload is None and wanted.url is None:
        raise ProblemError(422, "a document has one of url, upload and a form", "one-source")
    if upload is None and wanted.upload is not None:
        upload = await offers.complete(context, wanted.upload)
        if upload is None:
            return  # `_document` reports a missing upload.
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
        if isinstance(found, dict):
            check_members(found, NewJob.model_fields)
            found = {"list": usual, **found} if usual else found
        return NewJob.model_validate(found)
    except orjson.JSONDecodeError as error:
        raise ProblemError(422, f"the body is not JSON: {error}", "not-json") from None
    except ValidationError as error:
        raise invalid(error) from None


def _wanted_of(form: Form, upload: Upload, usual: str) -> tuple[NewJob, str]:
    """The job that a form describes, and an identification of its content. The form's bytes would
    not do, because a repeated form has another boundary.

    Raises:
        ProblemError: 422.
    """
    check_members(form.fields, _FORM_FIELDS)
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
    told = _dumped([upload.sha512, upload.filename, upload.mediatype, given, objects])
    return wanted, hashlib.sha256(told).hexdigest()


async def _document(
    context: Context, wanted: NewJob, sent: bytes, file: Incoming | None
) -> tuple[str, bytes, Upload | None]:
    """The uuid, the document to store (b"" if it is stored already), and the upload that the
    document refers to.
    """
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
    except FileNotFoundError:  # Another request has used it, or it has expired.
        raise ProblemError(
            404, "there is no complete upload of that id", "upload-unknown"
        ) from None
    return *made, found


def _dumped(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:  # orjson writes fewer levels than it reads.
        raise ProblemError(422, f"this cannot be stored as JSON: {error}", "invalid") from None
