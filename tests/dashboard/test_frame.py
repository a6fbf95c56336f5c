"""What holds for every page: login, roles, forms, prefixes, headers, live parts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from conserver.http import protocol
from conserver.http.api.bodies import STALL_S_MAX
from conserver.http.dashboard import templating
from conserver.http.dashboard.pages import quoted, safe_next, unquoted
from conserver.queue import keys
from tests.api.conftest import Api
from tests.dashboard.visitor import Page, Visitor, Visitors
from tests.helpers import eventually

STATIC = templating.FOLDER / "static"


def test_a_browser_is_sent_to_the_dashboard(api: Api) -> None:
    with api.client() as client:
        answer = client.get("/", headers={"accept": "text/html,*/*"})
        assert (answer.status_code, answer.headers["location"]) == (307, "ui/")
        assert client.get("/").status_code == 404
        assert client.get("/ui").headers["location"] == "ui/"


def test_who_has_no_session_logs_in_and_comes_back(visitors: Visitors) -> None:
    visitor = visitors()
    asked = visitor.get("", here="1")
    assert asked.url.endswith("/ui/login?next=%3Fhere%3D1")
    page = visitor.press(asked, "Log in", token="text-read")
    assert page.url.endswith("/ui/?here=1")
    assert "rea" in page.text
    assert visitor.press(page, "Log out").url.endswith("/ui/login")
    assert visitor.get().url.endswith("/ui/login")


def test_a_session_ends_for_all_who_hold_its_cookie(visitors: Visitors) -> None:
    visitor = visitors("read")
    [cookie] = [one for one in visitor.http.cookies.jar if one.name.startswith("conserver_")]
    assert cookie.path == "/ui/" or cookie.path == "/ui"
    assert cookie.has_nonstandard_attr("HttpOnly")
    thief = visitors()
    thief.http.cookies.jar.set_cookie(cookie)
    assert "Lists" in thief.get().text
    visitor.press(visitor.get(), "Log out")
    assert thief.get().url.endswith("/ui/login")


def test_a_login_gives_a_new_cookie(visitors: Visitors) -> None:
    visitor = visitors()
    asked = visitor.get("login")
    [before] = visitor.http.cookies.jar
    visitor.press(asked, "Log in", token="text-read")
    [after] = visitor.http.cookies.jar
    assert before.name == after.name
    assert before.value != after.value


def test_a_wrong_token_is_refused_and_too_many_are_slowed_down(visitors: Visitors) -> None:
    visitor = visitors()
    page = visitor.press(visitor.get("login"), "Log in", token="text-wrong")
    assert page.status == 401
    assert "not known" in page.text
    for _ in range(20):
        page = visitor.press(visitor.get("login"), "Log in", token="text-wrong")
    assert "wait a minute" in page.text


def test_a_revoked_token_has_no_session(api: Api, visitors: Visitors) -> None:
    visitor = visitors("read")
    tokens = api.context.keyring._tokens
    tokens[:] = [token for token in tokens if token.name != "rea"]
    assert visitor.get().url.endswith("/ui/login")


def test_a_role_that_may_not_read_sees_only_the_form_to_submit(visitors: Visitors) -> None:
    visitor = visitors()
    page = visitor.press(visitor.get("login"), "Log in", token="text-submit")
    assert (page.status, urlsplit(page.url).path) == (200, "/ui/submit")
    page = visitor.get("jobs")
    assert page.status == 403
    assert "<code>read</code>" in page.html


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_forms_of_other_sites_are_refused(visitors: Visitors, site: str) -> None:
    visitor = visitors("admin")
    page = visitor.get()
    visitor.http.headers["sec-fetch-site"] = site
    assert visitor.press(page, "Log out").status == 403


def test_a_form_without_its_secret_is_refused(visitors: Visitors) -> None:
    visitor, other = visitors("admin"), visitors("admin")
    page, foreign = visitor.get(), other.get()
    of_another = dict(foreign.forms["act"].fields)["csrf"]
    for secret in ("", "0" * 80, of_another):
        answer = visitor.press(page, "Log out", csrf=secret)
        assert answer.status == 403, secret
    assert "Lists" in visitor.get().text


def test_every_form_that_changes_something_has_a_secret(visitors: Visitors) -> None:
    page = visitors("admin").get()
    for form in page.forms.values():
        assert form.method == "get" or "csrf" in dict(form.fields)


def test_the_colours_are_kept(visitors: Visitors) -> None:
    visitor = visitors("read")
    assert 'data-theme="auto"' in visitor.get().html
    page = visitor.press(visitor.get(), "dark colours")
    assert 'data-theme="dark"' in page.html
    assert 'data-theme="dark"' in visitor.get("login").html


def test_without_tokens_no_login_is_needed_but_forms_have_secrets(
    serve: Callable[..., Api],
) -> None:
    with Visitor(serve(open_to_all=True)) as visitor:
        page = visitor.get()
        assert "no login needed" in page.text
        assert visitor.press(page, "dark colours", csrf="").status == 403
        assert 'data-theme="dark"' in visitor.press(page, "dark colours").html


@pytest.mark.parametrize(
    ("prefix", "header", "root"),
    [
        ("/ops/conserver", "", "/ops/conserver"),  # kept, and the setting names it
        ("/ops/conserver", "/ops/conserver", "/api"),  # kept, and the proxy names it
        ("", "/ops/conserver", "/api"),  # stripped
        ("", "", "/api"),  # stripped, and nobody says so
        ("/api", "", "/api"),
    ],
)
def test_every_prefix_works(serve: Callable[..., Api], prefix: str, header: str, root: str) -> None:
    api = serve(API_ROOT_PATH=root)
    headers = {"x-forwarded-prefix": header} if header else {}
    with Visitor(api, prefix, **headers) as visitor:
        page = visitor.login("admin").get()
        assert "Lists" in page.text
        for tag, given in page.tags:
            address = given.get("href", given.get("src", given.get("action", "")))
            assert not address.startswith("/"), (tag, address)
            assert "://" not in address
        styles = [given["href"] for tag, given in page.tags if given.get("rel") == "stylesheet"]
        assert visitor.http.get(f"{prefix}/ui/{styles[0]}").status_code == 200
        assert 'data-theme="dark"' in visitor.press(page, "dark colours").html


def test_a_prefix_that_is_none_changes_nothing(api: Api) -> None:
    for odd in ("//evil.example", "https://evil.example", "/a b", "/a\\b", "x"):
        with Visitor(api, **{"x-forwarded-prefix": odd}) as visitor:
            assert "evil" not in visitor.get().html


@pytest.mark.parametrize(
    ("wanted", "leads"),
    [
        ("lists/calls?x=1", "lists/calls?x=1"),
        ("//evil.example/", ""),
        ("https://evil.example/", ""),
        ("/etc", ""),
        ("javascript:alert(1)", ""),
        ("..\\..", ""),
        ("a/../../b", ""),
        ("a\nb", ""),
        ("http://[::1", ""),
    ],
)
def test_a_login_leads_nowhere_else(wanted: str, leads: str) -> None:
    assert safe_next(wanted) == leads


@pytest.mark.parametrize("name", ["calls", "a/b", "..", ".", "50%2F", "ü #?&", "<b>", "a b+c"])
def test_names_survive_an_address(name: str) -> None:
    from urllib.parse import unquote

    part = quoted(name)
    assert "/" not in part
    assert part.strip(".") or not part
    # A server decodes once; a proxy in between may have decoded and encoded it again.
    assert unquoted(unquote(part)) == name
    assert unquote(part).strip(".")


def test_headers_forbid_what_is_not_ours(visitors: Visitors) -> None:
    visitor = visitors("read")
    for page in (visitor.get(), visitor.get("no-such-page"), visitors().get("login")):
        headers = page.answer.headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "private, no-store"
        nothing_inline(page)


def nothing_inline(page: Page) -> None:
    """The CSP forbids these, so none may be there."""
    for tag, given in page.tags:
        assert "style" not in given, (tag, given)
        assert not any(name.startswith("on") for name in given), (tag, given)
        assert tag != "style"
        assert tag != "script" or given.get("src"), (tag, given)


def test_static_files_are_kept_under_their_version(visitors: Visitors) -> None:
    visitor = visitors()
    page = visitor.get("login")
    for tag, given in page.tags:
        if tag in ("script", "link"):
            answer = visitor.http.get(f"/ui/{given.get('src', given.get('href'))}")
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
    assert visitor.http.get("/ui/static/../app.py").status_code == 404
    assert visitor.http.get("/ui/static/%2e%2e/app.py").status_code == 404


def test_vendored_files_are_what_their_packages_have() -> None:
    folder = STATIC / "vendor"
    rows = re.findall(
        r"^\| ([\w.-]+) \|.*\| ([0-9a-f]{64}) \|$", (folder / "VENDORED.md").read_text(), re.M
    )
    named = dict(rows)
    there = {path.name for path in folder.iterdir()} - {"VENDORED.md"}
    assert named.keys() == there
    for name, expected in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name


def test_errors_are_pages(visitors: Visitors) -> None:
    page = visitors("read").get("no-such-page")
    assert page.status == 404
    assert "no such page" in page.text


def test_a_live_part_is_sent_and_sent_again_when_it_changes(api: Api, visitors: Visitors) -> None:
    visitor = visitors("read")
    with (
        api.context.client() as client,
        visitor.http.stream("GET", "/ui/", params={"live": 1}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert "list-calls" in next(line for line in lines if "calls" in line)
        client.rpush("calls", *["0" * 36] * 4321)
        assert next(line for line in lines if "4,321" in line)


def test_fifty_tabs_cost_one_poller(api: Api, visitors: Visitors) -> None:
    visitor = visitors("read")
    live = api._serving.config.app.state.dashboard.live
    from contextlib import ExitStack

    with ExitStack() as stack:
        streams = [
            stack.enter_context(visitor.http.stream("GET", "/ui/", params={"live": 1}))
            for _ in range(50)
        ]
        # They are kept: an iterator that goes away closes its stream.
        readers = [answer.iter_lines() for answer in streams]
        for lines in readers:
            assert any("calls" in line for line in lines)
        assert len(live) == 50
        before = live.rendered
        eventually(lambda: live.rendered >= before + 2)
        assert live.rendered <= before + 4
    eventually(lambda: len(live) == 0)


def test_a_carriage_return_in_a_text_ends_no_event(api: Api, visitors: Visitors) -> None:
    with api.context.client() as client:
        client.sadd(keys.LISTS, "odd\revent: gone\rdata: x")
    visitor = visitors("read")
    with visitor.http.stream("GET", "/ui/", params={"live": 1}) as answer:
        seen = ""
        for text in answer.iter_text():
            seen += text
            if "event: gone" in seen and seen.endswith("\n\n"):
                break
    assert "\r" not in seen
    assert "\ndata: event: gone\n" in seen


def test_streams_end_with_the_process(api: Api, visitors: Visitors) -> None:
    visitor = visitors("read")
    with visitor.http.stream("GET", "/ui/", params={"live": 1}) as answer:
        lines = answer.iter_lines()
        next(lines)
        api.begin_stop()
        for _ in lines:
            continue


def test_a_stream_needs_a_session(visitors: Visitors) -> None:
    assert visitors().http.get("/ui/", params={"live": 1}).status_code == 401


def test_the_first_page_is_small(visitors: Visitors) -> None:
    visitor = visitors("admin")
    page = visitor.get()
    sizes = {urlsplit(page.url).path: len(page.html)}
    for tag, given in page.tags:
        if tag in ("script", "link"):
            address = given.get("src", given.get("href", ""))
            sizes[address] = len(visitor.http.get(f"/ui/{address}").content)
    assert sum(sizes.values()) < 150_000, sizes


def test_templates_mark_nothing_as_safe() -> None:
    for path in Path(templating.FOLDER / "templates").iterdir():
        text = path.read_text()
        assert "|safe" not in text.replace(" ", ""), path.name
        assert "autoescape" not in text, path.name


@pytest.mark.skipif(
    not os.environ.get("CONSERVER_TEST_LONG"), reason="a minute; CONSERVER_TEST_LONG=1 runs it"
)
@pytest.mark.timeout(300)
def test_a_form_that_stalls_holds_no_connection(api: Api) -> None:
    head = (
        b"POST /ui/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    with socket.create_connection((api.host, api.port), timeout=STALL_S_MAX + 60) as connection:
        connection.sendall(head + b"token=half")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")
        # It is not held by a byte now and then, either.
        connection.settimeout(1)
        with pytest.raises(ConnectionError):  # noqa: PT012 - whichever of the two meets it
            for _ in range(round(protocol.REST_S_MAX) + 60):
                connection.sendall(b"a")
                with contextlib.suppress(TimeoutError):
                    if connection.recv(65_536) == b"":
                        raise ConnectionError
