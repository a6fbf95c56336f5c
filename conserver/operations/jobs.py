"""Jobs (submissions that somebody follows): find, list, cancel, follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from conserver.errors import OperationError
from conserver.operations import audit, items
from conserver.operations.connection import Client
from conserver.queue import cancellation, jobs, keys
from conserver.queue.jobs import STATUSES, Job

__all__ = [
    "STATUSES", "Followed", "Job", "Page", "as_data", "cancel", "find", "follow", "get", "newest",
    "page",
]  # fmt: skip

_LOOK_S = 0.1
_LOOK_MAX_S = 1.0
_PAGE = 200
LOOKED_AT_MAX = 20_000
"""How many jobs one page reads at most, to find those that match."""


@dataclass(frozen=True, slots=True)
class Followed:
    """A job that `follow` yields. position: in `names`. job: None if its hash has expired."""

    position: int
    job: Job | None


def get(client: Client, job: str) -> Job:
    """One job.

    Raises:
        OperationError: "not_found": there is no such job, or it has expired.
    """
    found = find(client, [job])[0]
    if found is None:
        raise OperationError(f"there is no job `{job}` (any more)", "not_found")
    return found


def find(client: Client, names: Sequence[str]) -> list[Job | None]:
    """Read these jobs; None for a job that does not exist or has expired."""
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hgetall(keys.job(name))
    answers = pipe.execute(raise_on_error=False)
    return [
        jobs.load(name, found) if isinstance(found, dict) else None
        for name, found in zip(names, answers, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs. after: pass it to `page` for the next page; "" if this is the last page."""

    jobs: list[Job]
    after: str


def newest(client: Client, name: str = "", status: str = "", looked_at: int = 0) -> Iterator[Job]:
    """The known jobs, the newest first.

    Args:
        name, status: only jobs of this list, with this status; "" for any.
        looked_at: read at most so many jobs; 0: all.
    """
    for _, job in islice(_listed(client, ""), looked_at or None):
        if job is not None and _matches(job, name, status):
            yield job


def page(
    client: Client,
    *,
    name: str = "",
    status: str = "",
    after: str = "",
    limit: int = 100,
    allowed: Callable[[Job], bool] = lambda _: True,
) -> Page:
    """One page of jobs, the newest first. If new jobs arrive between two pages, no job is repeated.

    It reads at most LOOKED_AT_MAX jobs. So a page may have fewer than `limit` jobs, or none, and
    still have an `after`.

    Args:
        after: `Page.after` of the previous page; "" for the first page. If that job has left the
            index (which has the latest 100,000), the page is empty.
        allowed: returns False for a job to leave out, such as one that the caller may not see.
    """
    found: list[Job] = []
    for looked_at, (last, job) in enumerate(_listed(client, after), 1):
        if job is not None and _matches(job, name, status) and allowed(job):
            found.append(job)
        if len(found) == limit or looked_at == LOOKED_AT_MAX:
            return Page(found, last)
    return Page(found, "")


def _listed(client: Client, after: str) -> Iterator[tuple[str, Job | None]]:
    """Yield (id, job) for each job after the job `after`, the newest first; job None if expired.

    Ranks in the index shift while jobs arrive. So this continues by the time of `after`, and by id
    among jobs of the same ms.
    """
    upper: Any = client.zscore(keys.JOBS, after) if after else "+inf"
    skip = 0
    while upper is not None:
        found: list[tuple[bytes, float]] = client.zrevrangebyscore(
            keys.JOBS, upper, "-inf", start=skip, num=_PAGE, withscores=True
        )
        if not found:
            return
        ids = [member.decode() for member, _ in found]
        if after and after not in ids:  # more than a page of jobs have the same time as `after`
            skip += len(ids)
            continue
        ids = ids[ids.index(after) + 1 :] if after else ids
        yield from zip(ids, find(client, ids), strict=True)
        if ids:
            after, upper, skip = ids[-1], found[-1][1], 0
        else:  # `after` was the last job of this page
            after, skip = "", skip + len(found)


def _matches(job: Job, name: str, status: str) -> bool:
    return name in ("", job.list) and status in ("", job.status)


def cancel(
    client: Client, job: str, *, actor: str, configured: Collection[str] = (), keep_s: int = 0
) -> Job:
    """Cancel a job, wherever its item is. A running item ends before its next link, or within its
    link if the link looks for cancellation.

    configured, keep_s: see items.let_expire.

    Returns:
        The job after the cancellation.

    Raises:
        OperationError: "not_found", or "conflict" if the job has ended.
    """
    found = get(client, job)
    if found.ended:
        raise OperationError(f"the job {job} has ended already: {found.status}", "conflict")
    # The second call finds an item that moved during the first.
    total = sum(cancellation.cancel_job(client, found.list, job).total for _ in range(2))
    if total:
        audit.record(client, actor, "cancel", {"job": job, "uuid": found.uuid}, total)
        items.let_expire(client, [found.uuid], keep_s, [found.list, *configured])
    return find(client, [job])[0] or found


def follow(
    client: Client, names: Sequence[str], *, timeout_s: float
) -> Generator[Followed, None, None]:
    """Poll jobs until each has ended. Yields each job when it has ended.

    When `timeout_s` is over, yields the jobs that have not ended.
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
    """A job as data for JSON output."""
    told = asdict(job)
    del told["fields"]
    return told
