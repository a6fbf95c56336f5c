"""/ui/schedules: what happens at fixed times, run and paused from a page."""

from __future__ import annotations

import orjson

from conserver.operations import audit
from tests.api.conftest import Api
from tests.dashboard.visitor import Visitors

KEY = "conserver:schedule:nightly"


def test_schedules_are_shown_with_how_they_ended(api: Api, visitors: Visitors) -> None:
    with api.context.client() as client:
        result = orjson.dumps({"error": "<b>no such column</b>", "done": 3})
        client.hset(KEY, mapping={"last_ms": 1, "last_time": 1, "last_result": result})
    page = visitors("read").get("schedules")
    for text in ("nightly", "0 2 * * *", "Europe/Berlin", "pushes 1 payload on other"):
        assert text in page.text, text
    assert "<b>no such column</b>" in page.text, "as text, not as markup"
    assert not page.has_button("Pause")


def test_a_run_that_ended_well_says_how_much_it_did(api: Api, visitors: Visitors) -> None:
    with api.context.client() as client:
        fields = {"last_ms": 1, "last_time": 1, "last_result": orjson.dumps({"done": 4310})}
        client.hset(KEY, mapping=fields)
    page = visitors("read").get("schedules")
    assert page.status == 200
    assert "ago: 4,310 done" in page.text


def test_a_schedule_is_run_paused_and_resumed(api: Api, visitors: Visitors) -> None:
    visitor = visitors("operate")
    page = visitor.press(visitor.get("schedules"), "Pause nightly")
    assert "nightly is paused" in page.text
    page = visitor.press(page, "Resume nightly")
    assert "fires again" in page.text
    asked = visitor.follow(page, "Run…")
    assert "Run nightly now?" in asked.text
    assert "runs as soon as a host has seen it" in visitor.press(asked, "Run it").text
    with api.context.client() as client:
        assert client.hexists(KEY, "wanted")
        actions = [entry.action for entry in audit.recent(client)]
    assert actions == ["run_schedule", "resume_schedule", "pause_schedule"]


def test_who_may_use_some_lists_only_sees_no_schedule(visitors: Visitors) -> None:
    page = visitors("narrow").get("schedules")
    assert "nightly" not in page.text
    assert visitors("narrow").get("schedules/nightly/run").status == 403
