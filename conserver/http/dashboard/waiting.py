"""/ui/lists/{name}/retry and /empty: try parked items now, or remove waiting items."""

from __future__ import annotations

import re

from starlette.responses import Response

from conserver.errors import InvalidArgumentError
from conserver.http.api.problems import ProblemError
from conserver.http.dashboard import operations
from conserver.http.dashboard.pages import Pages, Visit, quoted
from conserver.operations import lists, waiting
from conserver.operations.background import Order
from conserver.operations.dead_letters import parse_age
from conserver.operations.waiting import CAUSES, PLACES, WaitingFilter

pages = Pages()


@pages.post("/lists/{name}/retry", role="operate")
def retry(visit: Visit) -> Response:
    """Tries one vCon's parked items now. Without a uuid, counts the parked items of the list that
    could be tried now.
    """
    name = visit.known_list(visit.name("name"))
    uuid, cause = visit.query.get("uuid", ""), visit.query.get("cause", "")
    wanted = WaitingFilter((name,), (uuid,) if uuid else (), causes=(cause,) if cause else ())
    if not uuid:
        return operations.begun(visit, Order("retry", wanted, visit.token.name, dry_run=True), {})
    with visit.client() as client:
        *_, last = waiting.retry(client, wanted, actor=visit.token.name)
    what = "is tried now." if last.done else "is due already, or is not parked any more."
    return visit.to(f"lists/{quoted(name)}", said=f"{uuid} {what}")


@pages.get("/lists/{name}/empty", role="operate")
def ask(visit: Visit) -> Response:
    """The form that selects the items to remove."""
    name = visit.known_list(visit.name("name"))
    with visit.client() as client:
        depth = lists.depths(client, [name])[name]
    return visit.render("empty.html", name=name, depth=depth, places=PLACES, causes=CAUSES)


@pages.post("/lists/{name}/empty", role="operate")
def empty(visit: Visit) -> Response:
    """Starts a dry run, which counts the items. Its page asks whether to remove them."""
    name = visit.known_list(visit.name("name"))
    typed = {
        field: str(visit.form.get(field, "")).strip()
        for field in ("uuid", "place", "cause", "text", "older")
    }
    try:
        wanted = WaitingFilter(
            names=(name,),
            uuids=(typed["uuid"],) if typed["uuid"] else (),
            places=(typed["place"],) if typed["place"] else (),
            causes=(typed["cause"],) if typed["cause"] else (),
            error=re.escape(typed["text"]),
            older_s=parse_age(typed["older"]) if typed["older"] else None,
        )
        wanted.check()
    except InvalidArgumentError as error:
        raise ProblemError(422, str(error)) from None
    return operations.begun(visit, Order("empty", wanted, visit.token.name, dry_run=True), {})
