"""Makes a job of a request: checks the document, then stores document, job and item by one script.

The checks come before anything is stored. They refuse a document that is no vCon, a list that is
not configured, a list at its cap, and a job id that exists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from redis.exceptions import ResponseError
from starlette.requests import Request
from starlette.responses import Response

from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError, OperationError, Rejected
from conserver.http.api import queue, token_limits, tracing
from conserver.http.api.auth import check_list
from conserver.http.api.context import Context
from conserver.http.api.incoming import Incoming
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import job_view
from conserver.operations import callbacks, lists
from conserver.operations.callbacks import Callback
from conserver.operations.connection import Client
from conserver.operations.submit import INCOMING_S, prioritised
from conserver.operations.tokens import Token
from conserver.queue import calls, jobs, keys, operator_calls
from conserver.queue.jobs import Job
from conserver.queue.operator_calls import Submission
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid

FULL_RETRY_S = 10
POLL_S = 2
"""Value of Retry-After while a job is unfinished."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A job to submit.

    Attributes:
        body: the document to store; b"" if it is stored already.
        job: the job's id; "" for a new one.
        due_ms: the earliest time, in ms since 1970; 0 for now.
        fields: further fields of the job's hash.
        callback: is notified of the job's end.
        file: the file of a form, if the document refers to its content in the store.
    """

    list: str
    uuid: str
    body: bytes = b""
    job: str = ""
    due_ms: int = 0
    fields: Sequence[tuple[str, str]] = field(default_factory=tuple)
    callback: Callback | None = None
    file: Incoming | None = None


def known_list(context: Context, token: Token, name: str) -> str:
    """The name, checked: a list that a chain of the configuration serves and the token may use.

    Raises:
        ProblemError: 404 or 403.
    """
    check_list(token, name)
    if name not in context.config.ingress:
        hint = suggest(name, context.config.ingress)
        raise ProblemError(
            404,
            f"no chain takes from a list `{name}`" + (f" ({hint})" if hint else ""),
            "list-unknown",
        )
    return name


def prioritised_list(context: Context, token: Token, name: str, priority: str) -> str:
    """The list for a submission to the list `name` with this priority ("" for none).

    Raises:
        ProblemError: 404 or 403; 422: the chain has no list for this priority.
    """
    known_list(context, token, name)
    try:
        found = prioritised(context.config, name, priority)
    except InvalidArgumentError as error:
        raise ProblemError(422, error.named("priority"), "invalid") from None
    check_list(token, found)
    return found


def served_list(context: Context, client: Client, token: Token, name: str) -> str:
    """The name, checked: a list that the token may use and lists.check_known knows.

    Raises:
        ProblemError: 404 or 403.
    """
    check_list(token, name)
    try:
        lists.check_known(client, [name], context.config.ingress, pushed=False)
    except OperationError as error:
        raise ProblemError(404, str(error), "list-unknown") from None
    return name


def uuid_of(context: Context, raw: bytes) -> str:
    """The uuid of a document. Raises ProblemError: 413 or 422."""
    limit = context.settings.max_document_bytes
    if len(raw) > limit:
        raise ProblemError(413, f"a vCon has at most {limit} bytes here", "too-large")
    try:
        return Vcon.parse(raw).uuid
    except Rejected as refusal:
        raise ProblemError(422, refusal.reason, "no-vcon") from None


def check_uuid(uuid: str, status: int = 422) -> str:
    """The uuid, checked: a document can have it. Raises ProblemError: `status`."""
    if not usable_uuid(uuid):
        raise ProblemError(status, "uuid: cannot be the uuid of a vCon", "invalid")
    return uuid


def moment(text: str) -> datetime | None:
    """A moment in ISO 8601; None for "". Raises ProblemError: 422."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        raise ProblemError(422, "not_before: is no moment in ISO 8601", "invalid") from None


def due_ms(not_before: datetime | None) -> int:
    """The earliest time of a job, in ms since 1970; 0 for now. Raises ProblemError: 422."""
    if not_before is None:
        return 0
    if not_before.tzinfo is None:
        raise ProblemError(422, "not_before: needs a time zone", "invalid")
    return max(math.ceil(not_before.timestamp() * 1000), 0)


def check_callback(context: Context, callback: Callback | None) -> None:
    """Refuse a callback that can never arrive. Raises ProblemError: 422."""
    try:
        if callback is not None:
            callbacks.check(callback, context.settings)
    except Rejected as refusal:
        raise ProblemError(422, f"callback: {refusal.reason}", "callback") from None


async def submit(context: Context, token: Token, wish: Wish) -> tuple[Job, bool]:
    """Make a job: store its document and push its item.

    Returns:
        The job, and whether it is new: False if an identical submission has made it before.

    Raises:
        ProblemError: 409: another submission has the job id; 422: the callback can never arrive;
            429: the token has too many unfinished jobs, or jobs in this minute; 503: the list is
            full.
        redis.RedisError
    """
    job, settings = wish.job or jobs.new_id(), context.settings
    check_callback(context, wish.callback)
    await token_limits.count_job(context, token)
    kept = callbacks.fields(wish.callback)
    most_jobs = 0 if context.is_open else token_limits.jobs_at_once(context, token)
    submission = Submission(
        list=wish.list,
        uuid=wish.uuid,
        job=job,
        body=wish.body,
        most=settings.list_cap,
        due_ms=wish.due_ms,
        keep_s=settings.job_expiry_s,
        max_s=settings.job_max_s,
        api_token=token.name,
        most_jobs=most_jobs,
        fields=[("by", token.name), *wish.fields, *kept],
    )
    if len(wish.body) > calls.SMALL_BYTES:
        # The key gets a random name: a request with the same job id must not use this document.
        source = keys.incoming(jobs.new_id())
        await context.redis.set(source, wish.body, ex=INCOMING_S)
        submission = submission._replace(body=b"", source=source)
    with tracing.producing(wish.list, wish.uuid, job) as trace:
        submission = submission._replace(fields=[*submission.fields, *trace])
        answer, found = await _run(context, submission, wish.file)
    if submission.source and answer[0] not in (b"queued", b"waiting"):
        await context.redis.delete(submission.source)
    match [part.decode() for part in answer]:
        case ["queued"] | ["waiting"]:
            if found is None:
                raise ProblemError(404, f"there is no job `{job}` any more", "job-unknown")
            return found, True
        case ["exists", *_]:
            if found is not None and may_see(token, found) and _is_same(found, wish):
                return found, False
            raise ProblemError(409, f"another submission has the job id `{job}`", "job-exists")
        case ["busy", _]:
            raise token_limits.busy(token, most_jobs)
        case refusal:
            raise _refused(wish.list, refusal)


def _refused(name: str, answer: Sequence[str]) -> ProblemError:
    """The error for a refusal by submit.lua. name: the list. answer: of the script."""
    match answer:
        case ["full", length]:
            return ProblemError(
                503,
                f"{length} items wait on `{name}`, and no more are taken; try again later",
                "list-full",
                {"Retry-After": str(FULL_RETRY_S)},
            )
        case ["type", key, kind]:
            return ProblemError(
                409, f"{key} is a {kind} in Redis: an operator has to rename it", "wrong-type"
            )
    return ProblemError(503, "the document was lost on its way; send it again", "incoming-lost")


async def _run(
    context: Context, submission: Submission, file: Incoming | None
) -> tuple[list[bytes], Job | None]:
    """Run submit.lua. `file.needed` is set before the call, because the call may succeed although
    its answer is lost; it is cleared if the script has made no job.
    """
    if file is not None:
        file.needed = True
    try:
        call = operator_calls.submit(submission)
        answer, found = await queue.run_and_read(context.shared, call, submission.job)
    except ResponseError:  # Redis is full, or refused the script: it has changed nothing.
        if file is not None:
            file.needed = False
        raise
    if file is not None:
        file.needed = answer[0] in (b"queued", b"waiting")
    return answer, found


def _is_same(job: Job, wish: Wish) -> bool:
    """Whether the job was made by an identical submission: with the same source, or, if one of the
    two has no source, with the same vCon.
    """
    source, known = dict(wish.fields).get("source"), job.fields.get("source")
    same = source == known if source and known else job.uuid == wish.uuid
    return job.list == wish.list and same


async def replayed(context: Context, token: Token, job: str, source: str) -> Job | None:
    """The job, if an identical request has made it; None if not, or if it does not exist."""
    found = await queue.job_of(context.shared, job)
    same = found is not None and may_see(token, found) and found.fields.get("source") == source
    return found if same else None


def answer(request: Request, job: Job, made: bool) -> Response:
    """202 for a new job, 200 for a job that existed."""
    view = job_view(job, request.scope.get("root_path", ""))
    headers = {"Location": view.links.self, "Retry-After": str(POLL_S)}
    return Response(view.model_dump_json(), 202 if made else 200, headers, "application/json")


async def visible_job(context: Context, token: Token, job: str) -> Job:
    """A job that the token may see (see `may_see`).

    Raises:
        ProblemError: 404: it does not exist, or the token may not see it.
    """
    found = await queue.job_of(context.shared, job) if is_job_id(job) else None
    if found is not None and may_see(token, found):
        return found
    raise ProblemError(404, f"there is no job `{job[:80]}` (any more)", "job-unknown")


def may_see(token: Token, job: Job) -> bool:
    """Whether the token may see a job: with the role read every job on its lists, without the role
    only jobs that it submitted itself.
    """
    return (token.may("read") or job.by == token.name) and token.may_use(job.list)


def is_job_id(text: str) -> bool:
    """Whether a text has the form of a job id."""
    return jobs.ID.fullmatch(text) is not None
