"""Submitting from a browser, and following it to its transcript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

import orjson
import pytest

from tests.api.conftest import Api
from tests.dashboard.calls import HOSTILE, call, tone
from tests.dashboard.visitor import Page, Visitor, Visitors
from tests.queues import Consumer, Queue


def send(visitor: Visitor, *files: tuple[str, bytes, str], **fields: str) -> Page:
    """Send files with the form of the page."""
    page = visitor.get("submit")
    form = page.forms[page.button("Submit").form]
    data = {**dict(form.fields), **fields}
    data.pop("file", None)
    given = [("file", file) for file in files]
    url = urljoin(page.url, form.action)
    return Page(visitor.http.post(url, data=data, files=given, follow_redirects=True))


@pytest.fixture
def adm(visitors: Visitors) -> Visitor:
    return visitors("admin")


def documents(queue: Queue) -> list[dict[str, Any]]:
    """Of all that waits on the list."""
    waiting = queue.client.lrange("calls", 0, -1)
    return [orjson.loads(queue.client.get(b"vcon:" + one.partition(b"#")[0])) for one in waiting]


def test_recordings_and_vcons_become_jobs(adm: Visitor, queue: Queue, worker: Consumer) -> None:
    given = call()
    page = send(
        adm,
        ("one.wav", tone(1), "audio/wav"),
        ("two.json", b"\xef\xbb\xbf" + orjson.dumps(given), "application/json"),
        ("three.opus", b"OggS....", ""),
        list="calls",
    )
    assert "submit/jobs?ids=" in page.url
    for name in ("one.wav", "two.json", "three.opus"):
        assert name in page.text
    assert page.text.count("queued") == 3
    waiting = documents(queue)
    assert waiting[1] == given
    assert [one["dialog"][0]["mediatype"] for one in waiting] == [
        "audio/wav", "audio/wav", "audio/ogg",
    ]  # fmt: skip
    assert "body" in waiting[0]["dialog"][0]
    first = worker.one()
    worker.settle(first)
    page = adm.get(page.url.partition("/ui/")[2])
    assert "completed" in page.text
    assert "nobody wrote it down" in page.text
    second = worker.one()
    worker.settle(second)
    assert "where is my parcel" in adm.get(page.url.partition("/ui/")[2]).text


def test_a_large_recording_stays_in_the_upload_store(
    serve: Callable[..., Api], queue: Queue
) -> None:
    api = serve(CONSERVER_INLINE_BYTES="1000")
    with Visitor(api) as visitor:
        send(visitor.login("admin"), ("one.wav", tone(2), "audio/wav"), list="calls")
        [document] = documents(queue)
        url = document["dialog"][0]["url"]
        upload = api.context.uploads.find(url.partition(":")[2])
        assert upload.bytes == len(tone(2))
        sound = visitor.http.get(f"/ui/items/{document['uuid']}/dialogs/0/recording")
        assert sound.content == tone(2)


def test_what_is_refused_keeps_nothing_else_out(adm: Visitor, queue: Queue, api: Api) -> None:
    page = send(
        adm,
        ("good.wav", tone(1), "audio/wav"),
        ("empty.wav", b"", "audio/wav"),
        ("page.html", b"<b>", "text/html"),
        ("broken.json", b"{no", "application/json"),
        (HOSTILE, b"{}", "application/json"),
        list="calls",
    )
    assert "good.wav" in page.text
    for text in ("empty.wav: it is empty", "page.html: it is neither", "broken.json", "<script>"):
        assert text in page.text, text
    assert not [tag for tag, given in page.tags if tag == "img"]
    assert len(documents(queue)) == 1
    assert not list(api.context.uploads.folder.glob("*"))


def test_nothing_chosen_or_nothing_taken(adm: Visitor) -> None:
    assert "No file was chosen" in send(adm, ("", b"", ""), list="calls").text
    assert "Nothing was taken" in send(adm, ("a.html", b"<b>", "text/html"), list="calls").text
    assert "no chain takes from" in send(adm, ("a.wav", tone(1), "audio/wav"), list="x").text


def test_forms_have_a_limit_before_they_are_read(serve: Callable[..., Api]) -> None:
    with Visitor(serve(CONSERVER_UPLOAD_MAX_BYTES="20000")) as visitor:
        page = send(visitor.login("admin"), ("a.wav", tone(3), "audio/wav"), list="calls")
        assert page.status == 413
        chunks = iter([b"a=b"])
        answer = visitor.http.post(
            "/ui/submit",
            content=chunks,
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 411


def test_what_a_token_may_send_on_a_day_counts_here_too(
    serve: Callable[..., Api], queue: Queue
) -> None:
    with Visitor(serve(CONSERVER_API_BYTES_PER_DAY="20000")) as visitor:
        visitor.login("admin")
        file = ("one.wav", bytes(15_000), "audio/wav")
        assert send(visitor, file, list="calls").status == 200
        page = send(visitor, file, list="calls")
        assert (page.status, "bytes of today" in page.text) == (429, True)
    assert len(documents(queue)) == 1


def test_who_may_submit(visitors: Visitors) -> None:
    assert visitors("read").get("submit").status == 403
    page = visitors("submit").get("submit")
    assert page.status == 200
    one = send(visitors("submit"), ("one.wav", tone(1), "audio/wav"), list="calls")
    assert "one.wav" in one.text
    ids = one.url.partition("?")[2]
    assert "one.wav" not in visitors("narrow").get(f"submit/jobs?{ids}").text


def test_a_page_that_is_kept_current_shows_nobody_anothers_jobs(
    visitors: Visitors, api: Api
) -> None:
    with api.client("submit") as client:
        job = client.post("/v1/vcons?list=calls", json=call()).json()["id"]
    own, other = visitors("submit"), visitors("other")
    asked = {"ids": job, "live": "1"}
    with own.http.stream("GET", "/ui/submit/jobs", params=asked) as answer:
        mine = answer.iter_lines()
        assert any("queued" in line for line in mine)
        with other.http.stream("GET", "/ui/submit/jobs", params=asked) as others:
            seen = _first_part(others.iter_lines())
    assert "queued" not in seen
    assert "None of these jobs is known" in seen


def _first_part(lines: Iterator[str]) -> str:
    """The first live part of a stream."""
    found: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            found.append(line)
        elif found:
            break
    return "\n".join(found)


def test_jobs_that_are_not_known(adm: Visitor) -> None:
    assert "None of these jobs" in adm.get("submit/jobs", ids="nowhere,%00,../x").text
    assert "None of these jobs" in adm.get("submit/jobs").text
