"""Overview, lists, dead letters, operations, jobs and workers, as each role sees and uses them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from conserver.operations import audit, lists
from conserver.queue import calls, history, keys
from tests.api.conftest import Api
from tests.dashboard.test_frame import nothing_inline
from tests.dashboard.visitor import Page, Visitor, Visitors
from tests.helpers import eventually
from tests.queues import Consumer, Queue

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*191}}"
UUID = "0199e0a4-7c1e-8b3a-9f11-2d3c4b5a69{:02d}"


@pytest.fixture
def died(queue: Queue, worker: Consumer) -> Callable[..., str]:
    """`died(1, error=...)` leaves a dead letter on the list `calls`; returns its uuid."""

    def leave(number: int, **why: Any) -> str:
        uuid = UUID.format(number)
        queue.push("calls", uuid)
        item = worker.one()
        known = {"reason": "failed", "link": "tag", "error": "it broke", "attempts": 3}
        known |= {"uuid": uuid, "time_ms": int(time.time() * 1000), **why}
        move = calls.Move(item.token, item.epoch, b"=", item.revision, why=orjson.dumps(known))
        worker.send(calls.move("dead", worker.id, [move], 0))
        return uuid

    return leave


def beating_host(api: Api, **worker: Any) -> str:
    """A host that beats, with one worker, as its coordinator writes it."""
    host = "abcdef0123456789"
    known = {
        "slot": 1, "pid": 4242, "consumer": "c0ffee", "state": "working", "restarts": 2,
        "backoff_s": 0, "started_at": time.time() - 60, "ended": "was killed by signal 9",
        "ended_at": time.time() - 60, "idle": False, "done": 1234, "failed": 5,
        "rss_bytes": 123 << 20, "away": [], "held": 1,
        "items": [{"uuid": UUID.format(7), "chain": "main", "link": "tag", "phase": "running",
                   "since_s": 42.0}],
    }  # fmt: skip
    with api.context.client() as client:
        client.sadd(keys.HOSTS, host)
        fields = {
            "beat": f"{int(time.time() * 1000)}.1",
            "name": "box", "version": "0.1.0", "lease_s": "3600", "pid": "4000", "state": "running",
            "started_at": str(time.time() - 3600), "lists": '["calls","other"]',
            "storages": '["files"]', "workers": json.dumps([{**known, **worker}]),
            "away": json.dumps({"files": time.time() - 720} if worker.get("away") else {}),
            "supervisor": json.dumps({"transcribers": [
                {"slot": 1, "pid": 1, "state": "working", "device": "GPU 0", "restarts": 0,
                 "windows": 77, "slots": 8, "busy": 5, "waiting": 3,
                 "memory_bytes": 9 << 30}]}),
        }  # fmt: skip
        client.hset(keys.host(host), mapping=fields)
    return host


PAGES = ("", "lists/calls", "dead-letters", "jobs", "workers", "operations", "schedules")


@pytest.mark.parametrize("path", PAGES)
def test_each_page_shows_itself_to_whoever_may_read(visitors: Visitors, path: str) -> None:
    page = visitors("read").get(path)
    assert page.status == 200
    assert [tag for tag, _ in page.tags].count("h1") == 1
    nothing_inline(page)
    assert visitors().get(path).url.partition("?")[0].endswith("/ui/login")


@pytest.mark.parametrize("path", PAGES)
def test_readers_have_no_buttons(
    api: Api, died: Callable[..., str], visitors: Visitors, path: str
) -> None:
    died(1)
    beating_host(api)
    page = visitors("read").get(path)
    buttons = {button.text for button in page.buttons}
    assert buttons <= {"light colours", "auto colours", "dark colours", "Log out", "Show"}
    assert not re.search(r">(Cancel|Replace)…", page.html)


def test_the_overview_says_what_is_wrong(
    api: Api, queue: Queue, died: Callable[..., str], visitors: Visitors
) -> None:
    visitor = visitors("operate")
    assert "No host works: none of those that are known takes items" in visitor.get().text
    died(1)
    queue.push("calls", *[UUID.format(number) for number in range(10, 22)])
    eventually(lambda: "List calls has 1 dead letter." in visitor.get().text)
    page = visitor.get()
    assert "takes items; 12 items wait." in page.text
    assert "List calls is served by no host: 12 items wait." in page.text


def test_the_overview_says_which_storage_is_away(api: Api, visitors: Visitors) -> None:
    beating_host(api, away=["files"])
    assert "Storage files has been away for 12 min." in visitors("read").get().text


def test_all_is_well(api: Api, visitors: Visitors) -> None:
    beating_host(api)
    assert "Nothing is wrong. 1 worker on 1 host." in visitors("read").get().text


def test_what_is_wrong_comes_with_what_to_do(api: Api, queue: Queue, visitors: Visitors) -> None:
    """On the overview and on the page of the list that it is about; commands are marked as such."""
    beating_host(api)
    queue.push("calls", UUID.format(1))
    with api.context.client() as client:
        lists.pause(client, ["calls"], actor="<b>ada</b>")
    visitor = visitors("read")
    eventually(lambda: "1 item waits. →" in visitor.get().text)
    for page in (visitor.get(), visitor.get("lists/calls")):
        assert "by <b>ada</b>: 1 item waits. → conserver resume calls" in page.text
        assert "<code>conserver resume calls</code>" in page.html


def test_a_list_shows_which_link_is_slow(api: Api, visitors: Visitors) -> None:
    """Of its own chain; where nothing is metered it says so."""
    host = beating_host(api)
    visitor = visitors("read")
    assert "none has run lately" in visitor.get("lists/calls").text
    with api.context.client() as client:
        told = json.dumps({"main": {"tag": [200, 3.0]}, "another": {"tag": [9, 99.0]}})
        beat = f"{int(time.time() * 1000) + 1}.2"
        client.hset(keys.host(host), mapping={"links": told, "beat": beat})
    eventually(lambda: "tag 200 15 ms" in visitor.get("lists/calls").text)
    assert "100 %" in visitor.get("lists/calls").text


@pytest.mark.parametrize("path", ["", "workers"])
def test_transcribers_show_their_calls_windows_and_memory(
    api: Api, visitors: Visitors, path: str
) -> None:
    host = beating_host(api)
    reader = visitors("read")
    text = reader.get(path).text
    assert "box 1 GPU 0 working 5 of 8 3 77 9.0 GiB 0" in text
    assert "windows per second" not in text, "one beat tells no rate"
    later: Any = {"slot": 1, "pid": 1, "state": "working", "device": "GPU 0", "windows": 97}
    told = {"supervisor": json.dumps({"transcribers": [{**later, "restarts": 0}]})}
    with api.context.client() as client:
        first_ms = int(float(client.hget(keys.host(host), "beat")))
        told["beat"] = f"{first_ms + 10_000}.2"
        client.hset(keys.host(host), mapping=told)
    eventually(lambda: "2.0 windows per second" in reader.get(path).text)


def test_a_list_is_paused_and_resumed(api: Api, visitors: Visitors) -> None:
    visitor = visitors("operate")
    page = visitor.press(visitor.get(), "Pause calls")
    assert page.url.endswith("/ui/lists/calls")
    assert "calls is paused" in page.text
    assert "paused by ops for " in page.text
    page = visitor.press(page, "Resume calls")
    assert "calls is taken from again" in page.text
    assert "calls is taken from again" not in visitor.get("lists/calls").text
    with api.context.client() as client:
        entries = audit.recent(client)
    assert [(one.actor, one.action) for one in entries] == [("ops", "resume"), ("ops", "pause")]


@pytest.mark.parametrize("path", ["lists/calls/pause", "dead-letters", "workers/x/1/recycle"])
def test_readers_may_send_no_form(api: Api, visitors: Visitors, path: str) -> None:
    visitor = visitors("read")
    secret = dict(visitor.get().forms["act"].fields)["csrf"]
    answer = visitor.http.post(f"/ui/{path}", data={"csrf": secret, "kind": "purge"})
    assert answer.status_code == 403
    with api.context.client() as client:
        assert not audit.recent(client)


def test_a_list_shows_what_waits_and_what_is_parked(
    queue: Queue, worker: Consumer, visitors: Visitors
) -> None:
    queue.push("calls", UUID.format(1), UUID.format(2) + "#myjob")
    page = visitors("operate").get("lists/calls")
    assert UUID.format(1) in page.text
    assert "myjob" in page.text
    assert page.status == 200


def test_one_item_is_cancelled_after_a_question(
    queue: Queue, worker: Consumer, visitors: Visitors
) -> None:
    uuid = UUID.format(1)
    worker.claim()  # Now the list is known.
    queue.push("calls", uuid)
    visitor = visitors("operate")
    asked = visitor.follow(visitor.get("lists/calls"), "Cancel…")
    assert f"Cancel 1 item of the vCon {uuid}?" in asked.text
    done = visitor.press(asked, "Cancel it")
    assert f"1 item of {uuid} cancelled" in done.text
    assert "Nothing waits." in done.text


def test_a_token_for_some_lists_sees_those(queue: Queue, visitors: Visitors) -> None:
    queue.push("calls", UUID.format(1))
    visitor = visitors("narrow")
    page = visitor.get()
    assert "calls" not in page.text
    assert "other" in page.text
    assert visitor.get("lists/calls").status == 404
    assert visitor.get("lists/other").status == 200
    assert visitor.get("dead-letters", list="calls").status == 404
    assert visitor.http.get("/ui/history").status_code == 404
    assert visitor.http.get("/ui/history", params={"list": "other"}).status_code == 200


def test_a_token_for_some_lists_sees_no_items_of_others(api: Api, visitors: Visitors) -> None:
    beating_host(api)
    assert UUID.format(7) in visitors("read").get("workers").html
    page = visitors("narrow").get("workers")
    assert page.status == 200
    assert UUID.format(7) not in page.html


def test_dead_letters_are_grouped_and_filtered(
    died: Callable[..., str], visitors: Visitors
) -> None:
    for number in range(1, 4):
        died(number, error=f"vCon {UUID.format(number)} has no audio")
    other = died(9, reason="unavailable", storage="files", link="", error="disk full")
    visitor = visitors("read")
    page = visitor.get("dead-letters")
    assert "vCon <uuid> has no audio" in page.text
    assert "By kind 4" in page.text
    group = visitor.follow(page, "3")
    assert "1 to 3" in group.text
    assert other not in group.text
    for query in ({"where": "files"}, {"reason": "unavailable"}, {"text": "DISK"}, {"uuid": other}):
        page = visitor.get("dead-letters", **query)
        assert "By kind 1" in page.text, query
        assert other in page.text
    assert "no dead letter matches" in visitor.get("dead-letters", older="2h").text.lower()
    assert visitor.get("dead-letters", older="soon").status == 422
    assert "files" in visitor.get("dead-letters", where="file").text


def test_one_letter_tells_everything(died: Callable[..., str], visitors: Visitors) -> None:
    uuid = died(1, error="it broke\nbadly", traceback="Traceback (most recent call last):\n  here")
    page = visitors("read").get(f"dead-letters/{uuid}")
    assert "Traceback (most recent call last):" in page.text
    assert "badly" in page.text
    assert "attempts 3" in page.text
    assert visitors("read").get("dead-letters/" + UUID.format(99)).status == 404


def test_a_letter_without_traceback_is_shown(died: Callable[..., str], visitors: Visitors) -> None:
    uuid = died(1, reason="rejected", error="it does not exist")
    page = visitors("read").get(f"dead-letters/{uuid}")
    assert page.status == 200
    assert "it does not exist" in page.text
    assert "Traceback" not in page.text


@pytest.mark.parametrize("at", ["²", "①", "-1", "1.5", "9999999999", "x"])
def test_a_page_number_that_is_none_is_the_first_page(
    died: Callable[..., str], visitors: Visitors, at: str
) -> None:
    uuid = died(1)
    page = visitors("read").get("dead-letters", at=at)
    assert page.status == 200
    assert uuid in page.text


ODD = {"path": "p", "self": "s", "said": "spoken", "kind": "failed", "template": "t"}


@pytest.mark.parametrize("path", ["", "jobs", "lists/calls", "dead-letters", "operations"])
def test_a_query_of_somebody_else_is_left_alone(
    died: Callable[..., str], visitors: Visitors, path: str
) -> None:
    for number in range(60):
        died(number)
    assert visitors("read").http.get(f"/ui/{path}", params=ODD).status_code == 200


def test_an_operations_page_says_nothing_that_its_address_does(
    died: Callable[..., str], visitors: Visitors
) -> None:
    died(1)
    visitor = visitors("operate")
    counted = visitor.press(visitor.get("dead-letters", text="it broke"), "Purge all that match…")
    page = Page(visitor.http.get(counted.url.partition("?")[0], params={"text": "it broke", **ODD}))
    assert page.status == 200
    assert "text=it+broke" in page.button("Purge 1 dead letter").action
    assert "spoken" not in visitor.press(page, "Purge 1 dead letter").html


@pytest.mark.parametrize("kind", ["requeue", "purge"])
def test_all_that_match_are_counted_and_then_done(
    api: Api, queue: Queue, died: Callable[..., str], visitors: Visitors, kind: str
) -> None:
    for number in range(1, 4):
        died(number)
    died(9, error="another")
    visitor = visitors("operate")
    page = visitor.get("dead-letters", text="it broke")
    counted = visitor.press(page, f"{kind.capitalize()} all that match…")
    assert "3 match" in counted.text
    assert "it broke" in counted.text
    assert len(visitor.get("dead-letters").html.split("/ui/")) > 0
    done = visitor.press(counted, f"{kind.capitalize()} 3 dead letters")
    assert "3 done" in done.text
    left = visitor.follow(done, "Back")
    assert left.url.endswith("/ui/dead-letters?text=it+broke")
    assert "No dead letter matches." in left.text
    assert "By kind 1" in visitor.get("dead-letters").text
    with api.context.client() as client:
        [entry] = audit.recent(client)
        waiting = client.llen(keys.returned("calls"))
    assert (entry.actor, entry.action, entry.count) == ("ops", kind, 3)
    assert waiting == (3 if kind == "requeue" else 0)
    assert kind in visitor.get("operations").text


def test_only_a_dry_run_is_carried_out(died: Callable[..., str], visitors: Visitors) -> None:
    died(1)
    visitor = visitors("operate")
    counted = visitor.press(visitor.get("dead-letters"), "Requeue all that match…")
    done = visitor.press(counted, "Requeue 1 dead letter")
    again = visitor.http.post(
        done.url.partition("?")[0] + "/begin", data={"csrf": dict(done.forms["act"].fields)["csrf"]}
    )
    assert again.status_code == 409


def test_jobs_are_shown_filtered_and_cancelled(api: Api, visitors: Visitors, queue: Queue) -> None:
    from tests.api.conftest import submitted

    with api.client("submit") as client:
        job = submitted(client)["id"]
        submitted(client, list="other")
        queue.client.hset(keys.job(submitted(client)["id"]), "list", "gone")
    visitor = visitors("operate")
    page = visitor.get("jobs")
    assert job in page.text
    assert job not in visitor.get("jobs", list="other").text
    assert job not in visitor.get("jobs", status="failed").text
    unknown = visitor.get("jobs", list="cals")
    assert unknown.status == 404
    assert "there is no list cals (did you mean calls" in unknown.text
    for nothing in ({"status": "failed"}, {"q": "nobody"}):
        assert visitor.get("jobs", list="gone", **nothing).status == 200
        assert visitor.get("jobs", list="gome", **nothing).status == 404
    assert job in visitor.get("jobs", q=job).text
    asked = visitor.follow(visitor.get("jobs", list="calls"), "Cancel…")
    assert f"Cancel the job {job}?" in asked.text
    assert f"The job {job} is cancelled." in visitor.press(asked, "Cancel it").text
    assert job in visitor.get("jobs", status="cancelled").text


def test_workers_are_shown_and_one_is_replaced(api: Api, visitors: Visitors) -> None:
    host = beating_host(api)
    visitor = visitors("operate")
    page = visitor.get("workers")
    for text in ("1,234", "123 MiB", "was killed by signal 9", UUID.format(7), "42 s", "GPU 0"):
        assert text in page.text, text
    asked = visitor.follow(page, "Replace…")
    assert "It has 1 item now" in asked.text
    assert "is replaced" in visitor.press(asked, "Replace it").text
    with api.context.client() as client:
        assert client.hget(keys.CONTROL, keys.recycle(host, 1)) == b"c0ffee"
        [entry] = audit.recent(client)
    assert (entry.actor, entry.action) == ("ops", "recycle")
    assert visitor.get(f"workers/{host}/9/recycle").status == 404


def test_a_worker_shows_all_that_it_holds(
    api: Api, queue: Queue, worker: Consumer, visitors: Visitors
) -> None:
    queue.supply("calls", UUID.format(7), UUID.format(8))
    worker.take(2)
    host = beating_host(api, consumer=worker.id)
    visitor = visitors("read")
    page = visitor.follow(visitor.get("workers"), "1")
    assert f"{UUID.format(7)} calls tag 42 s" in page.text
    assert UUID.format(8) in page.text
    assert "Held 2" in page.text
    narrow = visitors("narrow").get(f"workers/{host}/1")
    assert "It holds nothing." in narrow.text
    assert visitor.get(f"workers/{host}/9").status == 404


def test_the_past_is_drawn_and_tabled(api: Api, visitors: Visitors) -> None:
    ring, number = history.FINE, int(time.time()) // 10
    with api.context.client() as client:
        for name in ("", "calls"):
            for step in range(60):
                values = (step * 100, 1, 2, 3, 4.5, 0, 0.2, 1.5)
                raw = history.pack(number - step, values)
                client.setrange(ring.key(name), ring.offset(number - step), raw)
    visitor = visitors("read")
    told = visitor.http.get("/ui/history", params={"list": "calls", "window": "24h"}).json()
    assert max(value for value in told["lines"]["waiting"] if value is not None) >= 200
    assert len(told["times"]) == len(told["lines"]["p95_s"]) <= 720
    for path in ("", "lists/calls"):
        page = visitor.get(path)
        pictures = [given["aria-label"] for tag, given in page.tags if given.get("role") == "img"]
        assert any("done_per_s" in label for label in pictures)
        assert "As a table" in page.text
    assert 'class="spark"' in visitor.get().html


def test_what_producers_write_is_text(
    api: Api, queue: Queue, died: Callable[..., str], visitors: Visitors
) -> None:
    uuid = died(1, error=HOSTILE, traceback=HOSTILE, link=HOSTILE)
    queue.push("calls", HOSTILE, UUID.format(2))
    items = [{"uuid": HOSTILE, "chain": "main", "link": HOSTILE, "phase": "x", "since_s": 1.0}]
    beating_host(api, items=items, ended=HOSTILE)
    with api.context.client() as client:
        client.sadd(keys.LISTS, HOSTILE)
        audit.record(client, HOSTILE, HOSTILE, {HOSTILE: [HOSTILE]}, 1)
    visitor = visitors("admin")
    for path in (*PAGES, f"dead-letters/{uuid}"):
        page = visitor.get(path)
        assert page.status == 200, path
        harmless(page)
    for query in ({"q": HOSTILE}, {"list": HOSTILE}, {"window": HOSTILE}, {"status": HOSTILE}):
        for path in PAGES:
            harmless(visitor.get(path, **query))
    harmless(visitor.get("login", next=HOSTILE))


def harmless(page: Page) -> None:
    nothing_inline(page)
    sources = [given.get("src", "") for tag, given in page.tags if tag in ("script", "img")]
    assert "x" not in sources
    assert "alert(1)</script>" not in page.html
    assert "1337" not in page.text


@pytest.mark.parametrize("path", PAGES)
def test_live_parts_are_those_of_the_page(
    api: Api, died: Callable[..., str], visitors: Visitors, path: str
) -> None:
    died(1)
    beating_host(api)
    visitor = visitors("operate")
    page = visitor.get(path)
    if 'id="live"' not in page.html:
        assert path == "dead-letters"
        return
    with visitor.http.stream("GET", f"/ui/{path}", params={"live": 1}) as answer:
        lines = iter(answer.iter_lines())
        part = []
        for line in lines:
            if line.startswith("data: "):
                part.append(line.removeprefix("data: "))
            elif part:
                break
    inside = "\n".join(part)
    assert "csrf" not in inside  # It is the same for all who see it.
    assert "Traceback" not in inside
    assert len(inside) > 100


def test_when_redis_is_away_the_page_says_so(serve: Callable[..., Api]) -> None:
    api = serve(url="redis://127.0.0.1:1")
    with Visitor(api) as visitor:
        page = visitor.get()
        assert page.status in (200, 503)
        assert page.status == 200 or 'http-equiv="refresh"' in page.html
        assert "Redis does not answer" in page.text or "Log in" in page.text
