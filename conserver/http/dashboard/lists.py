"""/ui/lists/{name}: the first waiting items, running items, parked items and their reasons, dead
letters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from conserver.http.api.problems import ProblemError
from conserver.http.dashboard import overview, pasts
from conserver.http.dashboard.pages import Pages, Values, Visit, quoted
from conserver.operations import contents, dead_letters, items, jobs
from conserver.operations.dead_letters import Filter
from conserver.operations.overview import Overview

pages = Pages()
SHOWN = 25
DEAD_LOOKED_AT = 10_000


@pages.live("/lists/{name}", "list.html")
def show(visit: Visit) -> Values:
    """One list."""
    name = visit.check_list(visit.name("name"))
    found = overview.seen(visit)
    state = next((one for one in found.lists if one.name == name), None)
    if state is None:
        raise ProblemError(404, f"no list `{name}` is known: nobody has ever taken from it")
    with visit.client() as client:
        first = contents.first(client, name, SHOWN)
        parked = contents.parked(client, name, SHOWN) if state.parked else []
    config = visit.context.config
    chain = config.ingress.get(name)
    return {
        "name": name,
        "one": state,
        "pace": overview.paces(visit, found)[name],
        "chain": chain,
        "chain_config": config.chains[chain] if chain else None,
        "found": found,
        "findings": overview.findings_of(visit, name),
        "first": first,
        "parked": parked,
        "running": _running(found, chain),
        "lately": visit.dashboard.link_times.look(found.hosts),
        "kinds": _kinds(visit, name) if state.dead else [],
        "looked_at": DEAD_LOOKED_AT,
        **pasts.values(visit, name),
    }


@pages.post("/lists/{name}/pause", role="operate")
def pause(visit: Visit) -> Response:
    """Pauses a list: workers claim nothing from it."""
    name = visit.check_list(visit.name("name"))
    visit.context.pause(name, visit.token.name)
    return _back(visit, name, f"{name} is paused. What was taken before goes on to its end.")


@pages.post("/lists/{name}/resume", role="operate")
def resume(visit: Visit) -> Response:
    """Resumes a list."""
    name = visit.check_list(visit.name("name"))
    resumed = visit.context.resume(name, visit.token.name)
    text = f"{name} is taken from again." if resumed else f"{name} was not paused."
    return _back(visit, name, text)


@pages.get("/lists/{name}/cancel", role="operate")
def ask(visit: Visit) -> Response:
    """Asks before one vCon, or one job, is cancelled."""
    name = visit.check_list(visit.name("name"))
    uuid, job = visit.query.get("uuid", ""), visit.query.get("job", "")
    if job:
        question, details = f"Cancel the job {job}?", ["It is 1 submission of one vCon."]
    else:
        with visit.client() as client:
            places = items.find(client, [name], [uuid])
        count = sum(place.where != "dead" for place in places)
        question = f"Cancel {count} item{'s' * (count != 1)} of the vCon {uuid}?"
        details = ["Every copy of it that waits or runs, on any list, is cancelled."]
    return visit.confirm(
        question,
        yes="Cancel it",
        action=f"lists/{quoted(name)}/cancel",
        back=f"lists/{quoted(name)}",
        fields={"job": job} if job else {"uuid": uuid},
        details=[*details, "One that runs ends at its next link. Nothing is stored or passed on."],
        danger=True,
    )


@pages.post("/lists/{name}/cancel", role="operate")
def cancel(visit: Visit) -> Response:
    """Cancels a vCon or a job."""
    name = visit.check_list(visit.name("name"))
    uuid, job = str(visit.form.get("uuid", "")), str(visit.form.get("job", ""))
    if job:
        with visit.client() as client:
            visit.check_list(jobs.get(client, job).list)
        visit.context.cancel_job(job, visit.token.name)
        return _back(visit, name, f"The job {job} is cancelled.")
    if visit.token.lists:
        # The vCon may also wait on lists that this visitor may not use.
        raise ProblemError(403, "a token that is restricted to lists cancels jobs, not vCons")
    total = visit.context.cancel_vcon(uuid, visit.token.name).total
    return _back(visit, name, f"{total} item{'s' * (total != 1)} of {uuid} cancelled.")


def _back(visit: Visit, name: str, said: str) -> Response:
    """Redirects to the page with the button: the overview, or the page of the list."""
    came_from_overview = visit.request.headers.get("referer", "").partition("?")[0].endswith("/ui/")
    return visit.to("" if came_from_overview else f"lists/{quoted(name)}", said=said)


def _running(found: Overview, chain: str | None) -> list[Mapping[str, Any]]:
    """The items that workers report as running for a chain, the longest first."""
    rows: list[Mapping[str, Any]] = [
        {**item, "host": host.name, "slot": worker.get("slot")}
        for host in found.hosts
        if host.beats
        for worker in host.workers
        for item in worker.get("items", ())
        if item.get("chain") == chain
    ]
    return sorted(rows, key=lambda row: -float(row.get("since_s", 0)))[:SHOWN]


def _kinds(visit: Visit, name: str) -> list[dead_letters.Kind]:
    def read() -> list[dead_letters.Kind]:
        with visit.client() as client:
            return dead_letters.count(client, Filter(names=(name,)), DEAD_LOOKED_AT)

    return visit.dashboard.snapshots.get(("kinds", name), 15, read)[:SHOWN]
