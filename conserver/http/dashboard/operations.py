"""/ui/operations: operations on many items, their progress, and the step after a dry run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from conserver.http.api.problems import ProblemError
from conserver.http.dashboard.pages import Pages, Values, Visit
from conserver.operations import audit, background
from conserver.operations.background import Operation, Order

pages = Pages()
SHOWN = 100
FIELDS = ("list", "reason", "where", "text", "uuid", "older", "newer")
"""The form fields of a filter. An operation's page has a link back to the form."""

_LEFT_OUT = {
    "rate": "wait for a place of a rate: before it they would only wait again",
    "throttled": "wait until the server of their link takes calls again",
    "later": "were submitted for later",
    "age": "of an age that nobody knows",
}

WAIT_S = 0.6
"""How long a form waits for its operation, so that the page can show the end of a short one."""


@pages.live("/operations", "operations.html", nav="Operations")
def show_all(visit: Visit) -> Values:
    """The latest operations, and who changed what."""
    with visit.client() as client:
        found = [one for one in background.newest(client, SHOWN) if _may_see(visit, one)]
        # The audit log names all lists, so a visitor with restricted lists must not see it.
        entries = [] if visit.token.lists else audit.recent(client, SHOWN)
    return {"operations": found, "entries": entries}


@pages.live("/operations/{id}", "operation.html")
def show(visit: Visit) -> Values:
    """One operation."""
    found = _found(visit)
    return {
        "one": found,
        "meant": _meant(found.filter),
        "left_out": {_LEFT_OUT.get(why, why): count for why, count in found.left_out.items()},
        "of_list": _list_of(found),
        "typed": _typed(visit),
    }


@pages.post("/operations/{id}/begin", role="operate")
def begin(visit: Visit) -> Response:
    """Starts the operation whose items a dry run has counted."""
    found = _found(visit)
    return begun(visit, background.in_earnest(found, visit.token.name), _typed(visit))


def begun(visit: Visit, order: Order, typed: Mapping[str, str]) -> Response:
    """Start an operation, and redirect to its page. typed: the filter's form, for the link back."""
    operation = visit.context.operations.begin(order)
    visit.context.operations.wait(operation.id, WAIT_S)
    return visit.to(f"operations/{operation.id}", **typed)


@pages.post("/operations/{id}/stop", role="operate")
def stop(visit: Visit) -> Response:
    """Stops an operation after its current step."""
    found = _found(visit)
    with visit.client() as client:
        background.stop(client, found.id, actor=visit.token.name)
    return visit.to(f"operations/{found.id}", said="It ends after its current step.")


def _found(visit: Visit) -> Operation:
    with visit.client() as client:
        found = background.get(client, visit.name("id"))
    if not _may_see(visit, found):
        raise ProblemError(404, f"there is no operation `{found.id}` (any more)")
    return found


def _list_of(operation: Operation) -> str:
    """The list on whose page the operation was started; "" for an operation on dead letters."""
    names = operation.filter.get("names") or [""]
    return str(names[0]) if operation.kind in background.OF_WAITING else ""


def _typed(visit: Visit) -> Mapping[str, str]:
    return {name: value for name in FIELDS if (value := visit.query.get(name))}


def _meant(fields: Mapping[str, Any]) -> Mapping[str, str]:
    """A filter as people read it."""
    names = {"names": "list", "uuids": "vCon", "error": "text in the error"}
    names |= {"older_s": "older than, s", "newer_s": "newer than, s", "where": "link or storage"}
    names |= {"places": "place", "causes": "parked for"}
    told = {}
    for field, value in fields.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        # Undo re.escape: show the text that was typed, not the pattern.
        told[names.get(field, field)] = re.sub(r"\\(.)", r"\1", text) if field == "error" else text
    return told


def _may_see(visit: Visit, operation: Operation) -> bool:
    names = operation.filter.get("names") or ()
    token = visit.token
    return not token.lists or (bool(names) and all(token.may_use(name) for name in names))
