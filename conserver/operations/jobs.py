"""Jobs: submissions that somebody follows."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from conserver.errors import OperationError
from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.queue import cancellation, jobs, keys
from conserver.queue.jobs import STATUSES, Job

__all__ = ["STATUSES", "Followed", "Job", "as_data", "cancel", "find", "follow", "get", "newest"]

_LOOK_S = 0.1
_LOOK_MAX_S = 1.0
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Followed:
    """A job that is followed. job: None once its hash has expired."""

    position: int
    job: Job | None


def get(client: Client, job: str) -> Job:
    """One job.

    Raises:
        OperationError: "not_found": there is none, or it has expired.
    """
    found = find(client, [job])[0]
    if found is None:
        raise OperationError(f"there is no job `{job}` (any more)", "not_found")
    return found


def find(client: Client, names: Sequence[str]) -> list[Job | None]:
    """These jobs as they are now; None for one that is not known (any more)."""
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(keys.job(name))
    answers = pipe.execute(raise_on_error=False)
    return [
        jobs.load(name, found) if isinstance(found, dict) else None
        for name, found in zip(names, answers, strict=True)
    ]


def newest(client: Client, name: str = "", status: str = "", looked_at: int = 0) -> Iterator[Job]:
    """The jobs that are known, the newest first.

    Args:
        name, status: only of that list, with that status.
        looked_at: look at about so many jobs at most; 0: at all.
    """
    at = 0
    while (not looked_at or at < looked_at) and (
        page := client.zrevrange(keys.JOBS, at, at + _PAGE - 1)
    ):
        at += len(page)
        for job in find(client, [one.decode() for one in page]):
            if job and name in ("", job.list) and status in ("", job.status):
                yield job


def cancel(client: Client, job: str, *, actor: str) -> Job:
    """Cancels a job wherever its item is; a running one ends at its next link, or within its link.

    Returns:
        The job afterwards.

    Raises:
        OperationError: "not_found", or "conflict" for one that has ended.
    """
    found = get(client, job)
    if found.ended:
        raise OperationError(f"the job {job} has ended already: {found.status}", "conflict")
    # A copy that moved during the first look is found by the second.
    total = sum(cancellation.cancel_job(client, found.list, job).total for _ in range(2))
    if total:
        audit.record(client, actor, "cancel", {"job": job, "uuid": found.uuid}, total)
    return find(client, [job])[0] or found


def follow(
    client: Client, names: Sequence[str], *, timeout_s: float
) -> Generator[Followed, None, None]:
    """Looks at jobs until each has ended; yields each at its end, by its position in `names`.

    At the end of the time those that have not ended are yielded as they are then.
    """
    pending = dict(enumerate(names))
    until_s, pause_s = time.monotonic() + timeout_s, _LOOK_S
    while pending:
        places = list(pending)
        now = dict(zip(places, find(client, [pending[place] for place in places]), strict=True))
        over = time.monotonic() >= until_s
        for place, job in now.items():
            if over or job is None or job.ended:
                del pending[place]
                yield Followed(place, job)
        if pending:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LOOK_MAX_S)


def as_data(job: Job) -> dict[str, Any]:
    """A job as JSON shows it."""
    told = asdict(job)
    del told["fields"]
    return told
