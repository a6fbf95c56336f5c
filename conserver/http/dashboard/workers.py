"""/ui/workers: the items of each worker, and for how long; replaces a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from conserver.http.api.problems import ProblemError
from conserver.http.dashboard import overview
from conserver.http.dashboard.pages import Pages, Values, Visit, quoted
from conserver.operations import workers

pages = Pages()
ITEMS_SHOWN = 500


@pages.live("/workers", "workers.html", nav="Workers")
def show(visit: Visit) -> Values:
    """All hosts with their workers and transcribers."""
    found = overview.seen(visit)
    windows_per_s = visit.dashboard.windows_rate.look(found.hosts)
    return {"found": found, "longest": _longest, "windows_per_s": windows_per_s}


@pages.live("/workers/{host}/{slot:int}", "worker.html")
def one(visit: Visit) -> Values:
    """The items that one worker holds."""
    with visit.client() as client:
        found = workers.holder(client, visit.name("host"), int(visit.name("slot")))
    items = [item for item in found.items if visit.token.may_use(item.list)]
    return {"one": found, "items": items[:ITEMS_SHOWN], "more": max(len(items) - ITEMS_SHOWN, 0)}


@pages.get("/workers/{host}/{slot:int}/recycle", role="operate")
def ask(visit: Visit) -> Response:
    """Asks before a worker is replaced."""
    host, slot = visit.name("host"), int(visit.name("slot"))
    for one in overview.seen(visit).hosts:
        for worker in one.workers:
            if one.id == host and worker.get("slot") == slot:
                held = int(worker.get("held") or 0)
                what = f"It has {held} item{'s' * (held != 1)} now"
                return visit.confirm(
                    f"Replace worker {slot} of {one.name}?",
                    yes="Replace it",
                    action=f"workers/{quoted(host)}/{slot}/recycle",
                    back="workers",
                    details=[
                        f"{what}, finishes what it has begun, and a new process takes its place.",
                        f"Process {worker.get('pid')}, {worker.get('state')}.",
                    ],
                )
    raise ProblemError(404, f"there is no worker {slot} of a host `{host}`")


@pages.post("/workers/{host}/{slot:int}/recycle", role="operate")
def recycle(visit: Visit) -> Response:
    """Replaces a worker."""
    with visit.client() as client:
        done = workers.recycle(
            client, visit.name("host"), int(visit.name("slot")), actor=visit.token.name
        )
    text = f"Worker {done.slot} of {done.name} finishes what it has and is replaced."
    return visit.to("workers", said=text)


def _longest(worker: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The item that has run longest, of those that the worker reports."""
    items = worker.get("items") or ()
    return max(items, key=lambda item: float(item.get("since_s", 0)), default=None)
