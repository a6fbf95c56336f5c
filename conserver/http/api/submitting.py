"""From a request to a job: the document, its checks, and the one script that takes all in.

Everything that is refused is refused here, before anything is stored: a document that is no vCon, a
list that nobody configured, a list at its cap, a job that exists.
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
from conserver.errors import InvalidArgumentError, Rejected
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
"""What Retry-After says while a job is unfinished."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants done. due_ms: not before, 0 for now. fields: more for the job to keep.
    callback: where its end is told. file: the recording in the store that the document refers to.
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
    """The name of a list that the configuration serves and the token may use.

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
    """The list that a submission to a known list goes to, with this priority ("" is none).

    Raises:
        ProblemError: 404 or 403, or 422 where the chain has no list for this priority.
    """
    known_list(context, token, name)
    try:
        found = prioritised(context.config, name, priority)
    except InvalidArgumentError as error:
        raise ProblemError(422, error.named("priority"), "invalid") from None
    check_list(token, found)
    return found


def served_list(context: Context, client: Client, token: Token, name: str) -> str:
    """The name of a list that is configured, or was ever taken from.

    Raises:
        ProblemError: 404 or 403.
    """
    check_list(token, name)
    if name in lists.known(client):
        return name
    return known_list(context, token, name)


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
    """A uuid that a document can have. Raises ProblemError: `status`."""
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
    """When it may run, in ms since 1970; 0 for now. Raises ProblemError: 422."""
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
    """Take a job in.

    Returns:
        It, and whether it was made now: false for the same submission that exists already.

    Raises:
        ProblemError: 409 for an id that another submission has, 422 for a callback that can never
            arrive, 429 where the token has as many jobs as it may have, now or in this minute, 503
            where the list is full.
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
        # A name of its own: a request with the same job id must not take this document.
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
    """Why submit.lua has not taken a submission to a list, by its answer."""
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
    """Run the script. Whether the recording is needed is told as soon as it may be."""
    if file is not None:
        file.needed = True
    try:
        call = operator_calls.submit(submission)
        answer, found = await queue.run_and_read(context.shared, call, submission.job)
    except ResponseError:  # Redis is full, or refuses: nothing was done.
        if file is not None:
            file.needed = False
        raise
    if file is not None:
        file.needed = answer[0] in (b"queued", b"waiting")
    return answer, found


def _is_same(job: Job, wish: Wish) -> bool:
    """Whether a job was made by the same submission: from the same source; of the same vCon where
    nobody knows the source of one of them.
    """
    source, known = dict(wish.fields).get("source"), job.fields.get("source")
    same = source == known if source and known else job.uuid == wish.uuid
    return job.list == wish.list and same


async def replayed(context: Context, token: Token, job: str, source: str) -> Job | None:
    """The job that this very request has made before; None if it has made none."""
    found = await queue.job_of(context.shared, job)
    same = found is not None and may_see(token, found) and found.fields.get("source") == source
    return found if same else None


def answer(request: Request, job: Job, made: bool) -> Response:
    """202 for a job that was made, 200 for one that was there."""
    view = job_view(job, request.scope.get("root_path", ""))
    headers = {"Location": view.links.self, "Retry-After": str(POLL_S)}
    return Response(view.model_dump_json(), 202 if made else 200, headers, "application/json")


async def visible_job(context: Context, token: Token, job: str) -> Job:
    """A job that the token may see: with the role read all, with submit its own.

    Raises:
        ProblemError: 404, also for one that the token may not see.
    """
    found = await queue.job_of(context.shared, job) if is_job_id(job) else None
    if found is not None and may_see(token, found):
        return found
    raise ProblemError(404, f"there is no job `{job[:80]}` (any more)", "job-unknown")


def may_see(token: Token, job: Job) -> bool:
    """Whether the token may see a job: with the role read any of its lists, else its own."""
    return (token.may("read") or job.by == token.name) and token.may_use(job.list)


def is_job_id(text: str) -> bool:
    """Whether a text can be the id of a job."""
    return jobs.ID.fullmatch(text) is not None
