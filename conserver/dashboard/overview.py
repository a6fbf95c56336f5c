"""/ui/: all lists, storages, hosts and workers, and above them what is wrong right now."""

from __future__ import annotations

from conserver.dashboard.pages import Pages, Values, Visit
from conserver.operations import overview as operations

pages = Pages()


@pages.live("/", "overview.html", nav="Overview")
def overview(visit: Visit) -> Values:
    """Everything at once."""
    found = seen(visit)
    return {"found": found, "lists": [one for one in found.lists if visit.token.may_use(one.name)]}


def seen(visit: Visit) -> operations.Overview:
    """The state of everything, read at most once a second for all pages."""
    dashboard = visit.dashboard

    def read() -> operations.Overview:
        with visit.client() as client:
            return operations.overview(client, list(visit.context.config.ingress), dashboard.rate)

    return dashboard.snapshots.get("overview", 0.9, read)
