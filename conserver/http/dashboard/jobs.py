"""/ui/jobs: the jobs, the newest first."""

from __future__ import annotations

from itertools import islice

from conserver.http.dashboard import overview
from conserver.http.dashboard.pages import Pages, Values, Visit
from conserver.operations import jobs

pages = Pages()
SHOWN = 100
LOOKED_AT = 5000


@pages.live("/jobs", "jobs.html", nav="Jobs")
def show(visit: Visit) -> Values:
    """The newest jobs that match the filter.

    Raises:
        ProblemError, OperationError: the list of the filter has no jobs, and `Visit.known_list`
            refuses it.
    """
    name, status = visit.query.get("list", ""), visit.query.get("status", "")
    status = status if status in jobs.STATUSES else ""
    searched = visit.query.get("q", "").strip()
    names = [one.name for one in overview.seen(visit).lists]
    with visit.client() as client:
        found = (
            job
            for job in jobs.newest(client, name, status, LOOKED_AT)
            if visit.token.may_use(job.list)
            and (not searched or searched in (job.id, job.uuid, job.by))
        )
        shown = list(islice(found, SHOWN))
        if name and not shown and name not in names:
            unfiltered = jobs.newest(client, visit.check_list(name), looked_at=LOOKED_AT)
            if not any(unfiltered):
                visit.known_list(name)
    return {
        "jobs": shown,
        "statuses": jobs.STATUSES,
        "names": names,
        "chosen": {"list": name, "status": status, "q": searched},
        "looked_at": LOOKED_AT,
        "most": SHOWN,
    }
