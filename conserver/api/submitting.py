"""From a request to a job: the document, its checks, and the one script that takes all in.

Everything that is refused is refused here, before anything is stored: a document that is no vCon, a
list that nobody configured, a list at its cap, a job that exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from conserver.api import queue
from conserver.api.auth import check_list
from conserver.api.context import Context
from conserver.api.problems import ProblemError
from conserver.config.validation import suggest
from conserver.errors import Rejected
from conserver.operations.submit import INCOMING_S
from conserver.operations.tokens import Token
from conserver.queue import calls, jobs, keys
from conserver.queue.calls import Submission
from conserver.queue.jobs import Job
from conserver.vcon.document import Vcon
from conserver.vcon.ids import usable_uuid

FULL_RETRY_S = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants done. due_ms: not before, 0 for now. fields: more for the job to keep."""

    list: str
    uuid: str
    body: bytes = b""
    job: str = ""
    due_ms: int = 0
    fields: Sequence[tuple[str, str]] = field(default_factory=tuple)


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


def uuid_of(context: Context, raw: bytes) -> str:
    """The uuid of a document. Raises ProblemError: 413 or 422."""
    limit = context.settings.max_document_bytes
    if len(raw) > limit:
        raise ProblemError(413, f"a vCon has at most {limit} bytes here", "too-large")
    try:
        return Vcon.parse(raw).uuid
    except Rejected as refusal:
        raise ProblemError(422, refusal.reason, "no-vcon") from None


async def submit(context: Context, token: Token, wish: Wish) -> tuple[str, bool]:
    """Take a job in.

    Returns:
        Its id, and whether it was made now: false for one of this id and vCon that exists already.

    Raises:
        ProblemError: 409 for an id that another vCon or list has, 503 where the list is full.
        redis.RedisError
    """
    job, settings = wish.job or jobs.new_id(), context.settings
    submission = Submission(
        list=wish.list,
        uuid=wish.uuid,
        job=job,
        body=wish.body,
        most=settings.list_cap,
        due_ms=wish.due_ms,
        keep_s=settings.job_expiry_s,
        max_s=settings.job_max_s,
        fields=[("by", token.name), *wish.fields],
    )
    if len(wish.body) > calls.SMALL_BYTES:
        source = keys.incoming(job)
        await context.redis.set(source, wish.body, ex=INCOMING_S)
        submission = submission._replace(body=b"", source=source)
    answer = [part.decode() for part in await queue.run(context.redis, calls.submit(submission))]
    match answer:
        case ["queued"] | ["waiting"]:
            return job, True
        case ["exists", wish.uuid, wish.list, _status]:
            return job, False
        case ["exists", *_]:
            raise ProblemError(409, f"another submission has the job id `{job}`", "job-exists")
        case ["full", length]:
            raise ProblemError(
                503,
                f"{length} items wait on `{wish.list}`, and no more are taken; try again later",
                "list-full",
                {"Retry-After": str(FULL_RETRY_S)},
            )
        case ["type", key, kind]:
            raise ProblemError(
                409, f"{key} is a {kind} in Redis: an operator has to rename it", "wrong-type"
            )
    raise ProblemError(503, "the document was lost on its way; send it again", "incoming-lost")


async def visible_job(context: Context, token: Token, job: str) -> Job:
    """A job that the token may see: with the role read all, with submit its own.

    Raises:
        ProblemError: 404, also for one that the token may not see.
    """
    found = await queue.job_of(context.redis, job) if _is_id(job) else None
    if found is not None and may_see(token, found):
        return found
    raise ProblemError(404, f"there is no job `{job[:80]}` (any more)", "job-unknown")


def may_see(token: Token, job: Job) -> bool:
    """Whether the token may see a job: with the role read any of its lists, else its own."""
    return (token.may("read") or job.by == token.name) and token.may_use(job.list)


def _is_id(text: str) -> bool:
    return jobs.ID.fullmatch(text) is not None


__all__ = ["Wish", "known_list", "submit", "usable_uuid", "uuid_of", "visible_job"]
