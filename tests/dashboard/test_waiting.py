"""The buttons of a list's page for what waits: try it now, or take it out."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from conserver.operations import audit
from tests.api.conftest import Api
from tests.dashboard.visitor import Page, Visitor, Visitors
from tests.helpers import eventually
from tests.queues import Consumer, Queue

UUID = "0199e0a4-7c1e-8b3a-9f11-2d3c4b5a69{:02}"
FAR_MS = 3_600_000
STATES = ({"attempts": 1}, {"owed": ["s3"]}, {"slots": ["link:a"]}, {"slots": ["throttled:a"]})


@pytest.fixture
def parked(queue: Queue, worker: Consumer) -> Queue:
    """Four parked items of the list `calls`, one for each cause but a later time."""
    queue.supply("calls", *[UUID.format(n) for n in range(4)])
    for item, state in zip(worker.take(4), STATES, strict=True):
        worker.park(item, after_ms=FAR_MS, state=orjson.dumps(state))
    return queue


@pytest.fixture
def operator(visitors: Callable[..., Visitor]) -> Visitor:
    return visitors("operate")


def ended(operator: Visitor, page: Page) -> Page:
    """The page of an operation at its end."""
    path = page.url.partition("/ui/")[2]

    def look() -> Page | None:
        found = operator.get(path)
        return None if "running" in found.text else found

    found = eventually(look)
    assert found is not None
    return found


def test_one_parked_item_is_tried_now(parked: Queue, operator: Visitor) -> None:
    page = operator.get("lists/calls")
    buttons = {one.text for one in page.buttons if one.text.startswith("Try 0")}
    assert buttons == {f"Try {UUID.format(n)} now" for n in range(2)}
    for cause in ("another attempt", "s3", "a place of its rate", "its server"):
        assert cause in page.text
    done = operator.press(page, f"Try {UUID.format(1)} now")
    assert f"{UUID.format(1)} is tried now." in done.text
    assert parked.promote("calls", everything=False) == 1
    again = operator.press(page, f"Try {UUID.format(1)} now")
    assert "is not parked any more" in again.text


def test_all_parked_items_are_counted_and_then_tried(
    api: Api, parked: Queue, operator: Visitor
) -> None:
    counted = ended(operator, operator.press(operator.get("lists/calls"), "Try all now…"))
    assert "2 match" in counted.text
    assert "1 wait for a place of a rate" in counted.text
    assert parked.promote("calls", everything=False) == 0
    done = ended(operator, operator.press(counted, "Try 2 items now"))
    assert "2 done" in done.text
    assert parked.promote("calls", everything=False) == 2
    assert operator.follow(done, "Back").url.endswith("/ui/lists/calls")
    with api.context.client() as client:
        [entry] = audit.recent(client)
    assert (entry.actor, entry.action, entry.count) == ("ops", "retry", 2)


def test_a_list_is_emptied_after_it_was_counted(parked: Queue, operator: Visitor) -> None:
    parked.push("calls", UUID.format(9))
    asked = operator.follow(operator.get("lists/calls"), "Empty…")
    assert "1 queued, 0 returned, 0 suspects, 4 parked" in asked.text
    wrong = operator.press(asked, "Count what is meant…", older="soon")
    assert wrong.status == 422
    some = operator.press(asked, "Count what is meant…", place="queued", uuid=UUID.format(9))
    some = ended(operator, some)
    assert "1 match" in some.text
    counted = ended(operator, operator.press(asked, "Count what is meant…"))
    assert "5 match" in counted.text
    assert "cannot be brought back" in counted.text
    assert parked.places("calls").total() == 5
    done = ended(operator, operator.press(counted, "Take out 5 items"))
    assert "5 done" in done.text
    assert parked.places("calls").total() == 0


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("lists/cals/pause", {}),
        ("lists/cals/resume", {}),
        ("lists/cals/empty", {}),
        ("lists/cals/retry", {}),
        ("dead-letters", {"kind": "requeue", "list": "cals"}),
        ("dead-letters", {"kind": "purge", "list": "cals"}),
    ],
)
def test_a_list_that_is_nowhere_is_refused(
    operator: Visitor, path: str, fields: dict[str, str]
) -> None:
    secret = dict(operator.get().forms["act"].fields)["csrf"]
    refused = operator.http.post(f"/ui/{path}", data={"csrf": secret, **fields})
    assert refused.status_code == 404
    assert "there is no list cals (did you mean <code>calls</code>?)" in refused.text


def test_a_list_of_another_program_is_not_emptied(operator: Visitor, queue: Queue) -> None:
    queue.client.rpush("celery", "job")
    secret = dict(operator.get().forms["act"].fields)["csrf"]
    refused = operator.http.post("/ui/lists/celery/empty", data={"csrf": secret})
    assert refused.status_code == 404
    assert operator.get("lists/celery/empty").status == 404
    assert queue.client.llen("celery") == 1


@pytest.mark.parametrize("path", ["lists/calls/retry", "lists/calls/empty"])
def test_readers_and_others_may_not(parked: Queue, visitors: Visitors, path: str) -> None:
    reader = visitors("read")
    page = reader.get("lists/calls")
    assert not [one for one in page.buttons if one.text.startswith("Try")]
    assert "Empty…" not in page.links
    secret = dict(reader.get().forms["act"].fields)["csrf"]
    assert reader.http.post(f"/ui/{path}", data={"csrf": secret}).status_code == 403
    narrow = visitors("narrow")
    secret = dict(narrow.get().forms["act"].fields)["csrf"]
    assert narrow.http.post(f"/ui/{path}", data={"csrf": secret}).status_code == 404
    assert parked.places("calls").total() == 4
