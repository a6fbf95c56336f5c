"""/ui/search: finds vCons by words in them, if a storage has a full-text index."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape
from starlette.responses import Response

from conserver.errors import OperationError
from conserver.http.dashboard.item import item_named, may_see_payload
from conserver.http.dashboard.pages import Pages, Visit
from conserver.operations import search as operation
from storage.contract import Hit

pages = Pages()
_PAGE = 20


@pages.get("/search", nav="Search")
def search(visit: Visit) -> Response:
    """The form, and the vCons found."""
    reader = visit.context.storages
    text, storage = visit.query.get("q", "").strip()[:1000], visit.query.get("storage", "")
    if text and (named := item_named(visit, text)) is not None:
        return named
    values: dict[str, Any] = {
        "text": text,
        "storage": storage,
        "storages": operation.storages(reader),
        "found": None,
        "fault": "",
        "why_not": _why_not(visit),
    }
    status = 200
    if text and values["why_not"]:
        values["fault"], status = f"It is not the uuid of a vCon. {values['why_not']}", 403
    elif text and values["storages"]:
        cursor = visit.query.get("cursor", "")[:1000]
        try:
            values["found"] = operation.search(
                reader, text, storage=storage, limit=_PAGE, cursor=cursor
            )
        except OperationError as error:
            values["fault"], status = str(error), 503 if error.kind == "unavailable" else 422
    return visit.render("search.html", status, marked=marked, **values)


def _why_not(visit: Visit) -> str:
    """Why a visitor may not search for words; "" if the visitor may."""
    if not may_see_payload(visit):
        return "To search for words shows what vCons hold, which is hidden from your role."
    return "To search for words looks at all lists, your token only at some." * bool(
        visit.token.lists
    )


def marked(hit: Hit) -> Markup:
    """The snippet of a hit as HTML, with the words found in <mark>."""
    pieces, at = [], 0
    for begin, end in sorted(hit.marks):
        if not at <= begin < end <= len(hit.snippet):
            continue
        pieces += [escape(hit.snippet[at:begin]), Markup("<mark>")]
        pieces += [escape(hit.snippet[begin:end]), Markup("</mark>")]
        at = end
    return Markup("").join([*pieces, escape(hit.snippet[at:])])
