"""The page of an item in a browser: recording and transcript follow each other."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from playwright.sync_api import Locator, expect

from conserver.queue import keys
from tests.api.conftest import Api
from tests.browser.conftest import Desk, slowed, until
from tests.dashboard.calls import call, fetching, ranges, tone
from tests.queues import Queue
from tests.standins import Answer, Standin

LOADED = "document.querySelector('audio').readyState >= 1"
PLAYS = "!document.querySelector('audio').paused && document.querySelector('audio').currentTime"


def at(audio: Locator) -> float:
    """Where the recording is, in seconds."""
    return float(audio.evaluate("audio => audio.currentTime"))


def test_a_word_is_heard_and_what_is_heard_is_shown(desk: Desk, uuid: str) -> None:
    window = desk("operate")
    window.goto(f"items/{uuid}")
    until(window, LOADED)
    audio = window.locator("audio")
    assert audio.evaluate("audio => Math.round(audio.duration)") == 8
    slowed(audio)
    window.get_by_text("parcel", exact=True).first.click()
    until(window, PLAYS)
    assert 3.3 <= at(audio) < 4.2, "the word `parcel` begins after 3.3 s"
    expect(window.locator(".lines li.now .who")).to_have_text("Ben")
    # It goes on by itself, and the mark with it: nobody speaks at 4.2 s.
    audio.evaluate("audio => { audio.currentTime = 4.2; }")
    expect(window.locator(".lines li.now .who")).to_have_text("Ada")
    expect(window.locator(".lines .text span.now")).to_have_count(1)
    audio.evaluate("audio => audio.pause()")
    audio.evaluate("audio => { audio.currentTime = 2.75; }")
    expect(window.locator(".lines span.now")).to_have_text("is")
    expect(window.locator(".lines li[aria-current=true] .who")).to_have_text("Ben")
    audio.evaluate("audio => { audio.currentTime = 7.5; }")
    expect(window.locator(".lines .now")).to_have_count(0)


def test_the_picture_of_who_speaks_leads_to_the_moment(desk: Desk, uuid: str) -> None:
    window = desk("operate")
    window.goto(f"items/{uuid}")
    until(window, LOADED)
    lanes = window.locator(".lanes")
    box = lanes.bounding_box()
    assert box is not None
    lanes.click(position={"x": box["width"] / 2, "y": 5})
    assert abs(at(window.locator("audio")) - 4.0) < 0.1


def test_by_keyboard_alone(desk: Desk, uuid: str) -> None:
    window = desk("operate")
    window.goto(f"items/{uuid}")
    until(window, LOADED)
    audio, lines = window.locator("audio"), window.locator(".lines")
    for _ in range(60):
        window.keyboard.press("Tab")
        if lines.evaluate("lines => document.activeElement === lines"):
            break
    expect(lines).to_be_focused()
    window.keyboard.press("ArrowDown")
    assert 0.2 <= at(audio) < 0.3
    window.keyboard.press("ArrowDown")
    expect(window.locator(".lines li.now .who")).to_have_text("Ben")
    window.keyboard.press("ArrowUp")
    expect(window.locator(".lines li.now .who")).to_have_text("Ada")
    window.keyboard.press("Space")
    until(window, PLAYS)
    window.keyboard.press("Space")
    until(window, "document.querySelector('audio').paused")


def test_what_happens_to_it_shows_while_one_looks(desk: Desk, queue: Queue, uuid: str) -> None:
    window = desk("operate")
    queue.client.sadd(keys.LISTS, "calls")
    window.goto(f"items/{uuid}")
    expect(window.locator(".places")).to_contain_text("not queued")
    expect(window.locator("#pulse")).to_have_text("live")
    queue.client.rpush("calls", uuid)
    expect(window.locator(".places")).to_contain_text("waits on calls")
    expect(window.locator("h1")).to_contain_text("A late parcel")
    later = call(uuid, analysis=[{"type": "summary", "dialog": 0, "body": "it is settled"}])
    queue.client.set(f"vcon:{uuid}", orjson.dumps(later))
    queue.client.delete("calls")
    expect(window.locator("#vcon")).to_contain_text("it is settled")


def test_a_new_version_does_not_disturb_who_listens(desk: Desk, queue: Queue, uuid: str) -> None:
    window = desk("operate")
    queue.client.sadd(keys.LISTS, "calls")
    window.goto(f"items/{uuid}")
    until(window, LOADED)
    window.locator("audio").evaluate("audio => { audio.currentTime = 1; }")
    expect(window.locator("#pulse")).to_have_text("live")
    queue.client.set(f"vcon:{uuid}", orjson.dumps(call(uuid, subject="x", analysis=[])))
    queue.client.rpush("calls", uuid)
    expect(window.locator("#newer")).to_be_visible()
    expect(window.locator(".lines")).to_have_count(1)
    window.click("#take")
    expect(window.locator("#vcon")).to_contain_text("No transcript")
    expect(window.locator("#newer")).to_be_hidden()


def test_without_javascript_everything_is_there(desk: Desk, queue: Queue, uuid: str) -> None:
    window = desk("operate", java_script_enabled=False)
    queue.client.sadd(keys.LISTS, "calls")
    queue.client.rpush("calls", uuid)
    window.goto(f"items/{uuid}")
    expect(window.locator(".lines")).to_contain_text("where is my parcel")
    expect(window.locator(".scripted").first).to_be_hidden()
    heard = window.locator(".lines a.at").nth(1).get_attribute("href") or ""
    assert heard.endswith(f"/items/{uuid}/dialogs/0/recording#t=2.4")
    window.get_by_role("button", name="Cancel it").click()
    window.get_by_role("button", name="Cancel 1 item").click()
    expect(window.locator(".said").first).to_have_text("Cancelled: 1")
    assert queue.client.llen("calls") == 0


def test_a_recording_elsewhere_is_heard_or_the_page_says_why_not(
    desk: Desk, serve: Callable[..., Api], queue: Queue
) -> None:
    served = serve(config={"links": fetching()})
    with Standin(ranges(tone())) as server:
        there, gone = (call(dialog={"url": f"{server.url}/{path}"}) for path in ("a.wav", "gone"))
        for document in (there, gone):
            queue.client.set(f"vcon:{document['uuid']}", orjson.dumps(document))
        window = desk("operate", url=served.url)
        window.goto(f"items/{there['uuid']}")
        expect(window.locator("#vcon")).to_contain_text("when it is played")
        assert not server.requests
        window.get_by_text("parcel", exact=True).first.click()
        # What was sought is told before anything has been loaded.
        until(window, f"{LOADED} && document.querySelector('audio').currentTime > 3.4")
        assert any(request.headers.get("range") for request in server.requests)
        window.locator("audio").evaluate("audio => audio.pause()")

        desk.expected.append("502")
        server.answer = lambda _request: Answer(410)
        desk.expected.append("403")
        window.goto(f"items/{gone['uuid']}")
        window.locator("audio").evaluate("audio => { audio.play().catch(() => {}); }")
        expect(window.locator(".failed-recording")).to_contain_text("HTTP 410")
