"""/v1/jobs: submit a job, query it, list jobs, cancel a job."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from conserver.http.api import etags, new_jobs, openapi, submitting
from conserver.http.api.auth import requires, token_of
from conserver.http.api.context import Context, context_of
from conserver.http.api.new_jobs import NewJob
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import JobView, job_view
from conserver.http.api.submitting import POLL_S
from conserver.http.api.subscriptions import TooManyListenersError
from conserver.operations import jobs as operations
from conserver.operations.tokens import Token
from conserver.queue import jobs
from conserver.queue.jobs import Job

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

WAIT_S_MAX = 60.0
LIST_LIMIT_MAX = 1000


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
    """Takes a vCon, the uuid of a stored vCon, or a recording (a form, an upload, a URL), and
    queues it.

    The answer comes as soon as the item is in the queue. A request with an `Idempotency-Key` may be
    repeated: it gets the same job.
    """
    return await new_jobs.hand_in(request, token)


class JobPage(BaseModel):
    """Some jobs. next: the cursor of the next page; null on the last page."""

    jobs: list[JobView]
    next: str | None


@router.get(
    "",
    summary="List jobs, newest first",
    responses={404: {"description": "There is no such list"}},
)
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
    """Lists the latest 100,000 jobs, without expired ones. If new jobs arrive between two pages, no
    job appears twice.
    """
    context = context_of(request)
    allowed = partial(submitting.may_see, token)
    if status and status not in jobs.STATUSES:
        raise ProblemError(422, f"status: is one of {', '.join(jobs.STATUSES)}", "invalid")
    with context.client() as client:
        page = operations.page(
            client,
            name=name,
            status=status,
            after=cursor,
            limit=limit,
            allowed=allowed,
        )
        if name and not page.jobs and not page.after and not cursor:
            of_any_status = status and operations.page(client, name=name, limit=1, allowed=allowed)
            if not of_any_status or not of_any_status.jobs:
                submitting.served_list(context, client, token, name)
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
    """With `wait` the answer comes when the job has ended, or after that many seconds."""
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
    """Wait for the end of the job, at most `wait_s`, or until this process stops."""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s), context.subscriptions.listen(job.id) as changed:
                while not job.ended and not context.subscriptions.closing:
                    await changed.wait()
                    changed.clear()
                    job = await submitting.visible_job(context, token, job.id)
    except TooManyListenersError:
        return job  # The client has to poll.
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
    """Removes a waiting job from the queue. A running job stops before its next link, or within a
    link that checks for cancellation. Needs the role `operate`, or `submit` for the token's own
    jobs.
    """
    context = context_of(request)
    found = await submitting.visible_job(context, token, job)
    if not (token.may("operate") or (token.may("submit") and found.by == token.name)):
        raise ProblemError(403, "to cancel another's job needs the role `operate`", "role-missing")
    if found.ended:
        raise ProblemError(409, f"the job has ended already: {found.status}", "job-ended")
    await asyncio.to_thread(context.cancel_job, found.id, token.name)
    again = await submitting.visible_job(context, token, job)
    view = job_view(again, request.scope.get("root_path", ""))
    return Response(view.model_dump_json(), 202, {}, "application/json")
