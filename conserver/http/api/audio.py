"""/v1/audio/transcriptions and /v1/audio/translations, for OpenAI's clients.

The route makes a vCon of the recording, stores the caller's wishes in it (a transcription request),
and pushes it onto the list of the chain that `model` names. It answers at the end of the job; with
`Prefer: respond-async` or `upload_presigned_url` it answers at once, with the job. If the client
disconnects, the job goes on, and a client that repeats the request gets the same job.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError
from redis.exceptions import RedisError

from conserver.config.validation import said
from conserver.errors import Rejected
from conserver.http.api import (
    audio_form,
    audio_stream,
    idempotency,
    multipart,
    recordings,
    submitting,
)
from conserver.http.api.audio_answers import JOB_HEADER, rendered, transcript_of_job
from conserver.http.api.audio_docs import described
from conserver.http.api.audio_form import Wanted, invalid
from conserver.http.api.auth import requires
from conserver.http.api.context import Context, context_of
from conserver.http.api.events import changes
from conserver.http.api.hiding import as_is
from conserver.http.api.incoming import Incoming
from conserver.http.api.models import DEFAULT, model_named
from conserver.http.api.multipart import Form
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import job_view
from conserver.http.api.submitting import POLL_S, Wish
from conserver.http.api.subscriptions import TooManyListenersError
from conserver.operations import callbacks
from conserver.operations.callbacks import Callback
from conserver.operations.tokens import Token
from conserver.outbound.uploads import Upload
from conserver.queue import jobs
from conserver.queue.jobs import Job

router = APIRouter(prefix="/v1/audio", tags=["openai"])

AWAY_S_MAX = 30.0
"""How long Redis may be away before a waiting request fails."""

_AWAY_PAUSE_S = 1.0


@router.post("/transcriptions", summary="Transcribe a recording", **described(translate=False))
async def transcriptions(
    request: Request, token: Annotated[Token, Depends(requires("submit"))]
) -> Response:
    """Has the interface of OpenAI's route; `model` chooses the chain (see /v1/models)."""
    return await _answer(request, token, translate=False)


@router.post("/translations", summary="Transcribe into English", **described(translate=True))
async def translations(
    request: Request, token: Annotated[Token, Depends(requires("submit"))]
) -> Response:
    """Has the interface of OpenAI's route: an English text of speech in any language."""
    return await _answer(request, token, translate=True)


async def _answer(request: Request, token: Token, *, translate: bool) -> Response:
    context = context_of(request)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ProblemError(400, "send a form: multipart/form-data with `file` and `model`", "form")

    def look(form: Form) -> None:
        """Refuse wrong fields before the recording is read, if they stand before it in the form."""
        if name := audio_form.wanted_of(form, translate=translate).model:
            model_named(context, token, name)

    async with multipart.received(request, context, token.name, look) as form:
        if form.upload is None or form.upload.bytes == 0:
            raise invalid("file", "there is none in the form, or it is empty")
        wanted = audio_form.wanted_of(form, translate=translate)
        job = await _submitted(request, token, wanted, form.upload, form.file)
    headers = {JOB_HEADER: job.id}
    if wanted.presigned_url or _prefers_async(request):
        return _accepted(request, job, headers)
    if wanted.stream:
        turns = wanted.form == "diarized_json"
        return audio_stream.response(request, job, headers, turns=turns)
    job = await _ended(request, job)
    if not job.ended:
        return Response(status_code=499)  # The client has disconnected.
    found = await transcript_of_job(request, job)
    body, kind = rendered(found, wanted)
    as_is(request)
    return Response(body, 200, headers, kind)


async def _submitted(
    request: Request, token: Token, wanted: Wanted, upload: Upload, file: Incoming
) -> Job:
    """The job of a request: a new one, or the job of an earlier identical request."""
    context = context_of(request)
    model = model_named(context, token, wanted.model or DEFAULT)
    callback = _callback(context, wanted)
    told = [wanted.presigned_url, wanted.form] if wanted.presigned_url else []
    asked = [upload.sha512, model.list, wanted.request.model_dump(), *told]
    source = hashlib.sha256(orjson.dumps(asked)).hexdigest()
    key, job = request.headers.get("idempotency-key", "").strip().strip('"'), ""
    if key:
        job = await idempotency.claim(context.redis, token.name, key, source)
    elif request.headers.get("x-stainless-retry-count", "0") != "0":
        job = await idempotency.repeated(context.redis, token.name, source)
    if job and (known := await submitting.replayed(context, token, job, source)):
        return known
    if not key:  # Noted before the job is made, because Redis's answer to that call may be lost.
        job = jobs.new_id()
        await idempotency.note(context.shared, token.name, source, job)
    async with context.handing_over:
        uuid, body = await recordings.vcon_of_upload(
            context, upload, file.body, request=wanted.request
        )
        wish = Wish(
            list=model.list,
            uuid=uuid,
            body=body,
            job=job,
            fields=[("source", source)],
            callback=callback,
            file=file if recordings.stays(context, upload) else None,
        )
        made, _ = await submitting.submit(context, token, wish)
    if key:
        await idempotency.keep(context.redis, token.name, key, source, made.id)
    return made


def _callback(context: Context, wanted: Wanted) -> Callback | None:
    if not wanted.presigned_url:
        return None
    try:
        callback = Callback.presigned(wanted.presigned_url, wanted.form)
        callbacks.check(callback, context.settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise invalid("upload_presigned_url", said(first)) from None
    except Rejected as refusal:
        raise invalid("upload_presigned_url", refusal.reason) from None
    return callback


def _prefers_async(request: Request) -> bool:
    """Whether the request has `Prefer: respond-async` (RFC 7240)."""
    wishes = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(wish.partition(";")[0].strip() == "respond-async" for wish in wishes)


def _accepted(request: Request, job: Job, headers: dict[str, str]) -> Response:
    view = job_view(job, request.scope.get("root_path", ""))
    headers |= {"Location": view.links.self, "Retry-After": str(POLL_S)}
    if _prefers_async(request):
        headers["Preference-Applied"] = "respond-async"
    return Response(view.model_dump_json(), 202, headers, "application/json")


async def _ended(request: Request, job: Job) -> Job:
    """Wait for the end of the job. Returns the job unchanged if the client has disconnected.

    Raises:
        ProblemError: 503: this process stops, or too many clients wait here. The job goes on.
        redis.RedisError: Redis was away for longer than AWAY_S_MAX.
    """
    context = context_of(request)
    try:
        async for now in _patient_changes(context, job):
            if now is not None and now.ended:
                return now
            if await request.is_disconnected():
                return job
    except TooManyListenersError:
        why = "too many wait for their results here"
    else:
        why = "this server stops or restarts"
    raise ProblemError(
        503,
        f"{why}: send the request again, or ask for the job {job.id}, which goes on",
        "come-again",
        {"Retry-After": "1", JOB_HEADER: job.id},
    )


async def _patient_changes(context: Context, job: Job) -> AsyncIterator[Job | None]:
    """`events.changes`, which also goes on over short failures of Redis: it yields None then."""
    loop = asyncio.get_running_loop()
    bears_until_s = loop.time() + AWAY_S_MAX
    while True:
        try:
            async for now in changes(context, job, 0):
                bears_until_s = loop.time() + AWAY_S_MAX
                yield now
            return
        except RedisError:
            if loop.time() > bears_until_s:
                raise
        yield None
        await asyncio.sleep(_AWAY_PAUSE_S)
