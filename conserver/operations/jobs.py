"""Jobs: submissions that somebody follows."""

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
"""How many jobs one page looks at for those that match."""


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


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs. after: where the next page begins; "" for none."""

    jobs: list[Job]
    after: str


def newest(client: Client, name: str = "", status: str = "", looked_at: int = 0) -> Iterator[Job]:
    """The jobs that are known, the newest first.

    Args:
        name, status: only of that list, with that status.
        looked_at: look at so many jobs at most; 0: at all.
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
    """The newest jobs behind the job `after`. Jobs that arrive between two pages repeat none.

    It looks at LOOKED_AT_MAX jobs at most for those that match, so a page may hold fewer than
    `limit`, or none, and still have an `after`.

    Args:
        after: of the page before; "" begins with the newest. Behind one that is not listed (any
            more: the latest 100,000 are) there is nothing.
        allowed: leaves jobs out, such as those that a caller may not see.
    """
    found: list[Job] = []
    for looked_at, (last, job) in enumerate(_listed(client, after), 1):
        if job is not None and _matches(job, name, status) and allowed(job):
            found.append(job)
        if len(found) == limit or looked_at == LOOKED_AT_MAX:
            return Page(found, last)
    return Page(found, "")


def _listed(client: Client, after: str) -> Iterator[tuple[str, Job | None]]:
    """The id of each job behind `after`, the newest first, and the job if it is known still.

    Places in the list shift while jobs arrive, so it goes by their time, and by name within one ms.
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
        if after and after not in ids:  # More than a page of one moment come before it.
            skip += len(ids)
            continue
        ids = ids[ids.index(after) + 1 :] if after else ids
        yield from zip(ids, find(client, ids), strict=True)
        if ids:
            after, upper, skip = ids[-1], found[-1][1], 0
        else:  # It was the last of its page.
            after, skip = "", skip + len(found)


def _matches(job: Job, name: str, status: str) -> bool:
    return name in ("", job.list) and status in ("", job.status)


def cancel(
    client: Client, job: str, *, actor: str, configured: Collection[str] = (), keep_s: int = 0
) -> Job:
    """Cancels a job wherever its item is; a running one ends at its next link, or within its link.

    configured, keep_s: see items.let_expire.

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
        items.let_expire(client, [found.uuid], keep_s, [found.list, *configured])
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
