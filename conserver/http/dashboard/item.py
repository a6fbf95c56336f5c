"""/ui/items/{uuid}: the places of a vCon in the queues, its story, and its content.

Places and story are live. The content below them is not, so that a playing recording is not
interrupted; static/item.js loads a new version when there is one.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from conserver.errors import Rejected
from conserver.http.api import submitting
from conserver.http.api.hiding import as_is
from conserver.http.api.problems import ProblemError
from conserver.http.dashboard import call
from conserver.http.dashboard.pages import Pages, Values, Visit, quoted
from conserver.http.dashboard.snapshots import FOR_EVER_S
from conserver.http.dashboard.timeline import Bar, timeline
from conserver.operations import documents, lists
from conserver.operations import jobs as job_operations
from conserver.operations import story as stories
from conserver.operations.story import Story

pages = Pages()

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_COSTLY = 20
"""The least pause between two readings of a story, as a multiple of the time of a reading, because
a reading searches all lists.
"""


@pages.get("/items")
def find(visit: Visit) -> Response:
    """Redirects to the page of a vCon. `id`: its uuid, or the id of its job."""
    wanted = visit.query.get("id", "").strip()
    found = item_named(visit, wanted) if wanted else None
    return found or visit.to("items/" + quoted(submitting.check_uuid(wanted, 404)))


def item_named(visit: Visit, text: str) -> Response | None:
    """A redirect to the page of a uuid or of a known job's vCon; None for any other text."""
    if _UUID.fullmatch(text):
        return visit.to(f"items/{text}")
    if not submitting.is_job_id(text):
        return None
    with visit.client() as client:
        job = job_operations.find(client, [text])[0]
    if job is None or not submitting.may_see(visit.token, job):
        return None
    return visit.to("items/" + quoted(job.uuid), job=job.id)


@pages.live("/items/{uuid}", "item.html")
def item(visit: Visit) -> Values:
    """The page of a vCon."""
    uuid = submitting.check_uuid(visit.name("uuid"), 404)
    story = _story(visit, uuid)
    values: dict[str, Any] = {
        "uuid": uuid,
        "story": story,
        "attempts": [_shown(attempt, story) for attempt in reversed(story.attempts)],
        "seen": _version(story),
        "running": any(one.where == "running" for one in story.places),
        "waiting": any(one.where != "dead" for one in story.places),
    }
    if "live" not in visit.query:
        values |= _document(visit, uuid, story)
    return values


@pages.get("/items/{uuid}/vcon.json")
def download(visit: Visit) -> Response:
    """Sends the document, byte for byte."""
    headers = {"content-disposition": "attachment"}
    as_is(visit.request)
    return Response(document_of(visit), 200, headers, "application/json")


@pages.post("/items/{uuid}/cancel", role="operate")
def cancel(visit: Visit) -> Response:
    """Cancels every waiting or running item of the vCon."""
    uuid = submitting.check_uuid(visit.name("uuid"), 404)
    story = _story(visit, uuid)
    here = [one for one in story.places if one.where != "dead"]
    if visit.form.get("sure") != "yes":
        places = ", ".join(f"{one.where} on {one.list}" for one in here) or "nowhere any more"
        return visit.confirm(
            f"Cancel {uuid}?",
            yes=f"Cancel {len(here)} item" + ("s" if len(here) != 1 else ""),
            action=f"items/{uuid}/cancel",
            back=f"items/{uuid}",
            details=[f"It is {places}.", "What runs ends at its next link. Nothing is stored."],
            fields={"sure": "yes"},
            danger=True,
        )
    if visit.token.lists:
        raise ProblemError(403, "your token is for some lists only: cancel its job", "role-missing")
    done = visit.context.cancel_vcon(uuid, visit.token.name)
    text = f"Cancelled: {done.total}" + (f" ({done.running} still running)" if done.running else "")
    return visit.to(f"items/{uuid}", said=text if done.total else "There was nothing to cancel.")


def document_of(visit: Visit) -> bytes:
    """The document of the vCon in the address.

    Raises:
        ProblemError: 403: the visitor may not see it; 404; 502.
    """
    uuid = submitting.check_uuid(visit.name("uuid"), 404)
    if not _may_see(visit, None if not visit.token.lists else _story(visit, uuid)):
        raise ProblemError(403, "what vCons hold is not shown to you", "payload-hidden")
    found = _found(visit, uuid)
    if found.text is None:
        if found.silent:
            silent = ", ".join(sorted(found.silent))
            raise ProblemError(502, f"these storages could not be asked: {silent}", "storage-away")
        raise ProblemError(404, f"there is no vCon {uuid}", "vcon-unknown")
    return found.text


def may_see_payload(visit: Visit) -> bool:
    """Whether the visitor's role may see the content of vCons."""
    return visit.may("operate") or visit.context.settings.ui_payload == "read"


def _may_see(visit: Visit, story: Story | None) -> bool:
    """Whether the visitor may see this vCon. For a token that is restricted to lists, the story
    has to name one of these lists.
    """
    known = story is not None and bool(story.places or story.jobs or story.attempts)
    return may_see_payload(visit) and (not visit.token.lists or known)


def _story(visit: Visit, uuid: str) -> Story:
    dashboard, token = visit.dashboard, visit.token
    key = ("story", uuid, token.lists)
    job = visit.query.get("job", "")

    def read() -> tuple[Story, float]:
        began_s = time.monotonic()
        with visit.client() as client:
            names = lists.names(client, visit.context.config.ingress)
            mine = [name for name in names if token.may_use(name)]
            found = stories.read(client, mine, uuid, job if submitting.is_job_id(job) else "")
        return found, time.monotonic() - began_s

    took_s = dashboard.snapshots.get((*key, "took"), FOR_EVER_S, lambda: [0.0])
    max_age_s = -1.0 if visit.said else max(0.9, took_s[0] * _COSTLY)  # Read again after an action.
    story, took_s[0] = dashboard.snapshots.get(key, max_age_s, read)
    found: Story = story
    return found


def _found(visit: Visit, uuid: str) -> documents.Found:
    with visit.client() as client:
        return documents.get(client, visit.context.storages, uuid)


def _document(visit: Visit, uuid: str, story: Story) -> dict[str, Any]:
    """The template's values for the content of the vCon."""
    found = _found(visit, uuid)
    values: dict[str, Any] = {
        "source": found.source,
        "silent": found.silent,
        "call": None,
        "fault": "",
        "hidden": not _may_see(visit, story),
        "restricted": bool(visit.token.lists) and may_see_payload(visit),
    }
    if found.text is not None:
        try:
            values["call"] = call.read(found.text, visit.context.uploads)
        except Rejected as error:
            values["fault"] = error.reason
    return values


def _shown(attempt: stories.Attempt, story: Story) -> dict[str, Any]:
    bars: Sequence[Bar] = timeline(attempt.events)
    last = attempt.events[-1] if attempt.events else None
    return {
        "at": attempt.claimed_ms / 1000,
        "list": attempt.list_name,
        "chain": attempt.chain,
        "job": attempt.job,
        "host": story.hosts.get(attempt.host, ""),
        "deaths": attempt.deaths,
        "suspect": attempt.suspect,
        "bars": bars,
        "end": last,
        "took_s": (last.to_ms if last else 0) / 1000,
    }


def _version(story: Story) -> str:
    """A text that differs whenever the document may have changed."""
    seen = (
        [(one.where, tuple(one.links), tuple(one.owed or ())) for one in story.places],
        [(one.id, one.status) for one in story.jobs],
        len(story.attempts),
    )
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:12]
