"""What holds for all pages in a real browser: live, small, dark, accessible, below any prefix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page as Window
from playwright.sync_api import Route, expect

from conserver.queue import keys
from storage.contract import Document
from storage.sqlite import Options, Storage
from tests.api.conftest import Api, submitted
from tests.browser.conftest import Desk, slowed, until
from tests.dashboard.calls import call, tone
from tests.guards.counting import figure
from tests.helpers import eventually
from tests.operators import beat
from tests.queues import Consumer, Queue

SHOWN_BYTES_MAX = 150_000
NO_WIDER = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture
def paths(desk: Desk, api: Api, uuid: str) -> list[str]:
    """The addresses of all kinds of pages, those of the navigation first."""
    document = call()
    storage = Storage("index", Options(path=api.config.storages["index"].options["path"]))
    storage.open()
    storage.save_many([Document(document["uuid"], orjson.dumps(document), 1)])
    storage.close()
    with api.client("submit") as client:
        job = submitted(client)["id"]
    window = desk("admin")
    named = window.locator("header nav a").evaluate_all(
        "links => links.map((link) => link.getAttribute('href'))"
    )
    return [*named, f"items/{uuid}", f"submit/jobs?ids={job}", "search?q=parcel", "login"]


def scanned(window: Window, *rules: str) -> list[str]:
    """What axe finds that is serious, by these rules or by all of its own."""
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(window, options=options)
    return [
        f"{window.url}: {one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in found.response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_axe_finds_nothing_serious(desk: Desk, paths: list[str]) -> None:
    """In light colours, and whether those of the dark can be told apart too."""
    window = desk("admin", color_scheme="light", bypass_csp=True)  # axe is a script of its own.
    found: list[str] = []
    for path in paths:
        window.emulate_media(color_scheme="light")
        window.goto(path)
        found += scanned(window)
        window.emulate_media(color_scheme="dark")
        found += scanned(window, "color-contrast")
    assert not found


def test_every_page_fits_a_phone(desk: Desk, paths: list[str]) -> None:
    window = desk("admin", viewport={"width": 360, "height": 740})
    for path in paths:
        window.goto(path)
        assert window.evaluate(NO_WIDER), f"{path} is wider than a phone"


def test_a_wide_table_scrolls_and_its_page_does_not(desk: Desk, api: Api, queue: Queue) -> None:
    with api.client("submit") as client:
        job = submitted(client)["id"]
    queue.client.hset(keys.job(job), "link", "w" * 300)
    window = desk("operate")
    window.goto("jobs")
    table = window.locator(".scroll")
    assert table.evaluate("one => one.scrollWidth > one.clientWidth")
    assert window.evaluate(NO_WIDER)


def test_dark_is_dark_and_the_choice_is_kept(desk: Desk) -> None:
    def ground(window: Window) -> str:
        return str(window.evaluate("getComputedStyle(document.body).backgroundColor"))

    light, dark = desk("read", color_scheme="light"), desk("read", color_scheme="dark")
    assert ground(light) == "rgb(247, 247, 245)"
    assert ground(dark) == "rgb(20, 23, 26)"
    light.get_by_role("button", name="dark colours").click()
    light.goto("config")
    assert ground(light) == ground(dark)


def test_what_changes_is_shown_without_a_reload(desk: Desk, queue: Queue) -> None:
    window = desk("read")
    window.goto("./")
    expect(window.locator("#pulse")).to_have_text("live")
    window.evaluate("window.same = true")
    queue.supply("calls", *[f"u{number}" for number in range(4310)])
    expect(window.locator("main")).to_contain_text("4,310")
    assert window.evaluate("window.same")


def test_the_first_page_is_small(desk: Desk, queue: Queue) -> None:
    queue.client.sadd("conserver:lists", *[f"list {number}" for number in range(200)])
    known = desk("read").context.storage_state()
    window = desk(storage_state=known)  # It has the cookie, and nothing else.
    window.goto("./")
    window.wait_for_load_state("load")
    entries = window.evaluate("performance.getEntries().map((entry) => entry.toJSON())")
    loaded = [one for one in entries if one["entryType"] in ("navigation", "resource")]
    sizes = [one["transferSize"] for one in loaded if "live=1" not in one["name"]]
    times = next(one for one in loaded if one["entryType"] == "navigation")
    figure("the first page", sum(sizes), "bytes")
    figure("the first page, cold", times["loadEventEnd"], "ms until it is shown")
    assert len(sizes) > 3
    assert all(sizes)
    assert sum(sizes) < SHOWN_BYTES_MAX


def test_without_javascript_pages_work(desk: Desk, paths: list[str]) -> None:
    window = desk("admin", java_script_enabled=False)
    for path in paths:
        answer = window.goto(path)
        assert answer is not None
        assert answer.ok, path
    window.goto("search")
    window.fill("[name=q]", "parcel")
    window.get_by_role("button", name="Search").click()
    expect(window.locator("mark")).to_have_text("parcel")
    window.get_by_role("button", name="dark colours").click()
    assert window.locator("html").get_attribute("data-theme") == "dark"


def test_a_file_is_submitted_and_followed_to_its_end(
    desk: Desk, worker: Consumer, tmp_path: Path
) -> None:
    path = tmp_path / "call.json"
    path.write_bytes(orjson.dumps(call()))
    window = desk("admin")
    window.goto("submit")
    window.set_input_files("#file", path)
    window.get_by_role("button", name="Submit").click()
    expect(window.locator(".hits")).to_contain_text("queued")
    expect(window.locator("#pulse")).to_have_text("live")
    [item] = worker.take(1)
    expect(window.locator(".hits")).to_contain_text("processing")
    worker.settle(item)
    expect(window.locator(".hits")).to_contain_text("completed")
    expect(window.locator(".hits")).to_contain_text("where is my parcel")


def test_dropped_files_are_sent_at_once(desk: Desk, tmp_path: Path) -> None:
    window = desk("admin")
    window.goto("submit")
    window.evaluate("""bytes => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "dropped.wav", {type: "audio/wav"}));
      const event = new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data});
      document.querySelector("[data-drop]").dispatchEvent(event);
    }""", list(tone(0.1)))  # fmt: skip
    expect(window.locator(".hits")).to_contain_text("dropped.wav")
    window.goto("submit")
    path = tmp_path / "page.html"
    path.write_text("<b>")
    window.set_input_files("#file", path)
    window.get_by_role("button", name="Submit").click()
    expect(window.locator(".said")).to_contain_text("neither a recording nor a vCon")


def test_a_page_lives_although_one_of_its_scripts_comes_late(desk: Desk) -> None:
    """Regression: htmx began before its extension for streams was there, and nothing was live."""
    window = desk("admin")
    late: list[Route] = []

    def hold(route: Route) -> None:
        late.append(route)

    window.route("**/hx-sse.js*", hold)
    window.goto("./", wait_until="commit")
    eventually(lambda: window.evaluate("typeof htmx === 'object'") and late)
    window.evaluate("new Promise((done) => setTimeout(done, 50))")  # what htmx does once it is read
    for one in late:
        one.continue_()
    expect(window.locator("#pulse")).to_have_text("live")


@pytest.fixture(params=["strip", "keep"])
def proxied(
    request: pytest.FixtureRequest,
    serve: Callable[..., Api],
    nginx: Callable[[str, bool], str],
) -> str:
    """The dashboard behind nginx, which takes its prefix away or keeps it."""
    strip = request.param == "strip"
    made = serve(API_ROOT_PATH="" if strip else "/ops/conserver")
    return nginx(made.url, strip)


def test_below_a_prefix(desk: Desk, proxied: str, queue: Queue, uuid: str) -> None:
    home = desk(url=proxied)
    home.goto(proxied + "/")
    assert home.url.startswith(f"{proxied}/ui/login")
    window = desk("admin", url=proxied)
    assert window.url == f"{proxied}/ui/"
    expect(window.locator("#pulse")).to_have_text("live")
    queue.supply("calls", *[f"u{number}" for number in range(4310)])
    expect(window.locator("main")).to_contain_text("4,310")
    window.goto(f"items/{uuid}")
    until(window, "document.querySelector('audio').readyState >= 1")
    slowed(window.locator("audio"))
    window.get_by_text("parcel", exact=True).first.click()
    expect(window.locator(".lines li.now .who")).to_have_text("Ben")
    for name in ("Search", "Configuration", "Submit"):
        window.get_by_role("link", name=name, exact=True).click()
        expect(window.locator("h1").first).to_contain_text(name)
    window.get_by_role("button", name="Log out").click()
    assert window.url.startswith(f"{proxied}/ui/login")


def test_a_reload_shows_what_came_of_it_as_soon_as_a_host_answers(desk: Desk, queue: Queue) -> None:
    beat(queue.client, name="box")
    queue.client.sadd(keys.HOSTS, "h1")
    queue.client.hset(keys.host("h1"), "started_at", "1")
    window = desk("admin")
    window.goto("config")
    window.get_by_role("button", name="Reload").click()
    window.get_by_role("button", name="Reload").click()
    expect(window.locator("#live")).to_contain_text("no answer yet")
    request = window.url.rpartition("/")[2]
    told = {"reload": {"request": request, "at": 1.9e9, "refused": "chains: <b>none</b>"}}
    queue.client.hset(keys.host("h1"), "supervisor", orjson.dumps(told))
    expect(window.locator("#live pre")).to_have_text("chains: <b>none</b>")
    expect(window.locator("#live")).to_contain_text("refused")
    window.set_viewport_size({"width": 360, "height": 740})
    assert window.evaluate(NO_WIDER)
