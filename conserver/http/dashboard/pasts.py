"""Charts of the history: /ui/history for the script that draws them, and values for templates."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from conserver.http.dashboard.pages import Pages, Values, Visit
from conserver.operations import history
from conserver.operations.history import Past

pages = Pages()
PICTURES = (
    ("waiting", "waiting", ("waiting", "parked", "dead")),
    ("done", "per second", ("done_per_s", "failed_per_s")),
    ("duration", "duration, s", ("p50_s", "p95_s")),
)
"""Id, unit, and lines of each chart."""


@pages.get("/history")
def show(visit: Visit) -> Response:
    """JSON: {"window", "times": [...], "lines": {name: [...]}}. Query `list`: a list's name."""
    name = visit.query.get("list", "")
    if name or visit.token.lists:
        visit.check_list(name)
    past = _read(visit, name)
    told = {"window": past.window, "times": past.times, "lines": past.lines}
    return Response(orjson.dumps(told), media_type="application/json")


def values(visit: Visit, name: str) -> Values:
    """The values for the template `history.html`. name: of a list; "" for all lists together.

    A visitor who is restricted to lists gets no chart of all lists.
    """
    if not name and visit.token.lists:
        return {"past": None, "pictures": (), "past_list": name, "windows": ()}
    past = _read(visit, name)
    known = [
        (kind, unit, lines)
        for kind, unit, lines in PICTURES
        if any(value is not None for line in lines for value in past.lines[line])
    ]
    return {"past": past, "pictures": known, "past_list": name, "windows": tuple(history.WINDOWS)}


def _read(visit: Visit, name: str) -> Past:
    window = visit.query.get("window", "1h")
    window = window if window in history.WINDOWS else "1h"

    def read() -> Past:
        with visit.client() as client:
            return history.read(client, name, window)

    return visit.dashboard.snapshots.get(("history", name, window), 5, read)
