"""The page of one item: where it is, its story, what it holds, and who may see that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from conserver.outbound.uploads import new_id
from conserver.queue import keys, stories
from conserver.queue.stories import Attempt, Event
from conserver.testing.http_server import Reply, serving
from storage.contract import Document
from storage.sqlite import Options, Storage
from tests.api.conftest import Api, submitted
from tests.dashboard.calls import HOSTILE, call, fetching, ranges, tone
from tests.dashboard.visitor import Page, Visitor, Visitors
from tests.helpers import eventually, free_port
from tests.queues import Consumer, Queue
from tests.standins import Answer, Standin


@pytest.fixture
def ops(visitors: Visitors) -> Visitor:
    return visitors("operate")


def stored(queue: Queue, document: dict[str, Any]) -> str:
    uuid = str(document["uuid"])
    queue.client.set(f"vcon:{uuid}", orjson.dumps(document))
    return uuid


def kept(api: Api, content: bytes, mediatype: str = "audio/wav") -> str:
    """An upload; its address."""
    writer = api.context.uploads.begin(new_id())
    writer.write(content)
    return str(writer.finish(mediatype, "call.wav", "ann").url)


def test_a_vcon_is_shown_with_all_its_parts(ops: Visitor, queue: Queue) -> None:
    uuid = stored(queue, call())
    page = ops.get(f"items/{uuid}")
    assert page.status == 200
    for text in (
        "A late parcel", "Ada", "+12025550111", "where is my parcel", "summary",
        "The parcel came too late.", "reason:delivery", "not queued", "redis",
    ):  # fmt: skip
        assert text in page.text, text
    [audio] = [given for tag, given in page.tags if tag == "audio"]
    sound = ops.http.get(httpx.URL(page.url).join(audio["src"]))
    assert (sound.status_code, sound.content) == (200, tone())
    words = [given for tag, given in page.tags if tag == "span" and "data-from" in given]
    assert {"data-from": "2.4", "data-to": "2.68"} in words
    lines = [given["class"] for tag, given in page.tags if tag == "li" and "data-from" in given]
    assert lines == ["p0", "p1", "p0"]
    document = ops.http.get(httpx.URL(page.url).join(page.links["Download the whole document"]))
    assert document.json() == call(uuid)


def test_what_producers_write_is_never_markup(ops: Visitor, queue: Queue) -> None:
    dialog = {"type": HOSTILE, "mediatype": HOSTILE, "filename": HOSTILE, "body": HOSTILE}
    hostile = {
        **call(),
        "dialog": [
            dialog,
            {**dialog, "type": "recording", "url": "javascript:alert(3)", "body": ""},
        ],
        "subject": HOSTILE,
        "created_at": HOSTILE,
        "parties": [{"name": HOSTILE, "tel": HOSTILE}],
        "analysis": [{"type": HOSTILE, "vendor": HOSTILE, "body": HOSTILE, "dialog": 0}],
        "attachments": [{"purpose": HOSTILE, "body": HOSTILE, "url": HOSTILE}],
    }
    page = ops.get(f"items/{stored(queue, hostile)}")
    assert page.status == 200
    assert not [tag for tag, given in page.tags if tag == "img" or given.get("onerror")]
    assert all(given.get("src") for tag, given in page.tags if tag == "script")
    assert "javascript:" not in str(page.links)


@pytest.mark.parametrize("odd", [
    {"parties": [1, None, {}], "dialog": [None, {}, {"parties": [7, -1, None]}]},
    {"dialog": [{"type": "text", "body": "hello"}], "analysis": [{}]},
    {"dialog": [{"start": "yesterday", "duration": "long", "mediatype": 7}], "subject": [1]},
    {"analysis": [{"type": "transcript", "body": {"segments": [1, {"start": "x", "words": [9]}]}}]},
    {"payload": "e30", "signatures": []},
])  # fmt: skip
def test_odd_documents_are_shown(ops: Visitor, queue: Queue, odd: dict[str, Any]) -> None:
    base = {"uuid": call()["uuid"], "vcon": "0.4.0"}
    assert ops.get(f"items/{stored(queue, {**base, **odd})}").status == 200


def test_what_is_no_vcon_is_told(ops: Visitor, queue: Queue) -> None:
    queue.client.set("vcon:broken", b"{no")
    page = ops.get("items/broken")
    assert (page.status, "is no vCon" in page.text) == (200, True)
    assert "has a document of this uuid" in ops.get("items/nowhere").text
    assert ops.get("items/" + "x" * 200).status == 404


def test_the_role_read_sees_no_payload_unless_allowed(
    visitors: Visitors, queue: Queue, serve: Callable[..., Api]
) -> None:
    uuid = stored(queue, call())
    read = visitors("read")
    page = read.get(f"items/{uuid}")
    assert page.status == 200
    assert "is hidden" in page.text
    for secret in ("A late parcel", "Ada", "parcel came", "12025550111", "delivery"):
        assert secret not in page.html, secret
    for path in ("vcon.json", "dialogs/0/recording"):
        assert read.get(f"items/{uuid}/{path}").status == 403
    assert read.get("search", q="parcel").status == 403
    assert read.get("search", q=uuid).url.endswith(f"items/{uuid}")
    with Visitor(serve(CONSERVER_UI_PAYLOAD="read")) as allowed:
        page = allowed.login("read").get(f"items/{uuid}")
        assert "where is my parcel" in page.text
        assert allowed.get(f"items/{uuid}/vcon.json").status == 200


def test_a_token_for_some_lists_sees_what_belongs_to_them(visitors: Visitors, queue: Queue) -> None:
    uuid = stored(queue, call())
    narrow = visitors("narrow")
    assert "A late parcel" not in narrow.get(f"items/{uuid}").html
    assert narrow.get(f"items/{uuid}/vcon.json").status == 403
    queue.client.rpush("calls", uuid)
    queue.client.sadd(keys.LISTS, "calls", "other")
    assert "A late parcel" not in narrow.get(f"items/{uuid}").html
    queue.client.rpush("other", uuid)
    eventually(lambda: narrow.get(f"items/{uuid}/vcon.json").status == 200)


# ---- recordings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["inline", "upload"])
def test_recordings_have_ranges(api: Api, ops: Visitor, queue: Queue, where: str) -> None:
    content = tone(1)
    dialog = None if where == "inline" else {"url": kept(api, content)}
    document = call(dialog=dialog)
    content = tone() if where == "inline" else content
    path = f"/ui/items/{stored(queue, document)}/dialogs/0/recording"
    whole = ops.http.get(path)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/wav")
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.content == content
    size = len(content)
    for wanted, begin, end in (
        ("bytes=0-99", 0, 100), ("bytes=100-", 100, size), ("bytes=-10", size - 10, size),
        (f"bytes=5-{size * 2}", 5, size),
    ):  # fmt: skip
        part = ops.http.get(path, headers={"range": wanted})
        assert part.status_code == 206, wanted
        assert part.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
        assert part.content == content[begin:end]
    for odd in (f"bytes={'9' * 5000}-", f"bytes=0-{'9' * 5000}", "bytes=5-3", "bytes=a-b"):
        assert ops.http.get(path, headers={"range": odd}).status_code == 200, odd[:20]
    past = ops.http.get(path, headers={"range": f"bytes={size}-"})
    assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{size}")


def test_what_browsers_do_not_play_is_only_downloaded(ops: Visitor, queue: Queue) -> None:
    dialog = {"mediatype": "text/html", "body": "PGI-", "encoding": "base64url"}
    uuid = stored(queue, call(dialog=dialog))
    answer = ops.http.get(f"/ui/items/{uuid}/dialogs/0/recording")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_recordings_that_are_not_there(api: Api, ops: Visitor, queue: Queue) -> None:
    gone = kept(api, b"x")
    api.context.uploads.remove(gone.partition(":")[2])
    for dialog in ({"url": gone}, {"url": "ftp://example.com/a.wav?key=secret"}, {"body": "?"}):
        uuid = stored(queue, call(dialog=dialog))
        assert ops.get(f"items/{uuid}/dialogs/0/recording").status == 404
        page = ops.get(f"items/{uuid}")
        assert page.status == 200
        assert "key=secret" not in page.text.partition("Document")[0]
    uuid = stored(queue, call())
    for number in ("1", "-1", "x", "99999999"):
        assert ops.get(f"items/{uuid}/dialogs/{number}/recording").status == 404


def test_a_recording_elsewhere_is_passed_on_with_ranges(
    serve: Callable[..., Api], queue: Queue
) -> None:
    content = tone(1)
    with Standin(ranges(content)) as server, Visitor(serve(config={"links": fetching()})) as ops:
        ops.login("operate")
        uuid = stored(queue, call(dialog={"url": f"{server.url}/a.wav?key=secret"}))
        page = ops.get(f"items/{uuid}")
        assert f"It is fetched from {server.url}/a.wav when it is played" in page.text
        assert not server.requests, "nobody has pressed play"
        path = f"/ui/items/{uuid}/dialogs/0/recording"
        whole = ops.http.get(path)
        assert (whole.status_code, whole.content) == (200, content)
        assert whole.headers["content-type"] == "audio/wav"
        assert whole.headers["accept-ranges"] == "bytes"
        assert "set-cookie" not in whole.headers
        part = ops.http.get(path, headers={"range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, content[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
        assert part.headers["content-type"] == "audio/wav"
        assert server.requests[-1].path == "/a.wav?key=secret"
        assert "cookie" not in server.requests[-1].headers
        # What no browser plays is a download, whatever the server calls it.
        other = stored(queue, call(dialog={"url": server.url, "mediatype": "text/html"}))
        answer = ops.http.get(f"/ui/items/{other}/dialogs/0/recording")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == "attachment"


def test_a_recording_elsewhere_that_may_not_or_cannot_be_fetched(
    serve: Callable[..., Api], api: Api, ops: Visitor, queue: Queue
) -> None:
    def told(visitor: Visitor, url: str) -> tuple[int, str]:
        page = visitor.get(f"items/{stored(queue, call(dialog={'url': url}))}/dialogs/0/recording")
        return page.status, page.text

    with Standin(lambda _request: Answer(404)) as server:
        status, text = told(ops, f"{server.url}/a.wav?key=secret")
        assert (status, "an address of our own networks" in text) == (403, True)
        assert not server.requests
        with Visitor(serve(config={"links": fetching()})) as allowed:
            allowed.login("operate")
            status, text = told(allowed, f"{server.url}/a.wav?key=secret")
            assert (status, "HTTP 404" in text, "secret" in text) == (502, True, False)
            status, text = told(allowed, f"http://127.0.0.1:{free_port()}/a.wav")
            assert (status, "refused" in text.lower()) == (502, True)


def test_a_recording_that_breaks_off_is_not_taken_for_whole(
    serve: Callable[..., Api], queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        serving(Reply(200, tone(1), cut=True), Reply(200, tone(1))) as server,
        Visitor(serve(config={"links": fetching()})) as ops,
    ):
        ops.login("operate")
        path = f"/ui/items/{stored(queue, call(dialog={'url': server.url}))}/dialogs/0/recording"
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            ops.http.get(path)
        assert ops.http.get(path).content == tone(1)
        said = capsys.readouterr().err
        assert "recording_broke_off" in said
        assert "http_request_failed" not in said


# ---- where it is, and its story ------------------------------------------------------------------


def test_where_it_is(ops: Visitor, api: Api, worker: Consumer) -> None:
    with api.client("submit") as client:
        job = submitted(client)
    page = ops.get(f"items/{job['uuid']}")
    assert "waits on calls" in page.text
    assert f"job {job['id']} on calls, by ann" in page.text
    worker.take(1)
    eventually(lambda: "running on calls" in ops.get(f"items/{job['uuid']}").text)


def test_attempts_are_shown_side_by_side(ops: Visitor, queue: Queue) -> None:
    uuid = stored(queue, call())
    queue.client.sadd(keys.LISTS, "calls")
    first = [
        Event("link", "tag", 5, 900, "the shop is closed <b>", good=False),
        Event("parked", "", 905, 905, "for 2.0 s: error: the shop is closed", good=False),
    ]
    second = [
        Event("link", "tag", 1, 2100),
        Event("checkpoint", "", 2101, 2101),
        Event("storage", "files", 2102, 2110),
        Event("completed", "out", 2111, 2111),
    ]
    for number, events in enumerate((first, second)):
        at_ms = 1_700_000_000_000 + number * 5000
        one = Attempt("t", number + 1, "", "calls", "main", "h", "c", at_ms, number, events=events)
        for command in stories.commands(uuid, one, 60):
            queue.client.execute_command(*command)
    page = ops.get(f"items/{uuid}")
    assert "2 attempts" in page.text
    for text in ("the shop is closed <b>", "895 ms", "2.1 s", "completed to out", "8 ms"):
        assert text in page.text, text
    assert "a worker had died of it before" in page.text
    assert page.text.index("completed") < page.text.index("parked"), "the latest first"


def test_it_is_found_by_uuid_and_by_job(ops: Visitor, api: Api) -> None:
    with api.client("submit") as client:
        job = submitted(client)
    for wanted in (job["uuid"], job["id"]):
        page = ops.press(ops.get("search"), "Search", q=f" {wanted} ")
        assert f"items/{job['uuid']}" in page.url
        assert "waits on calls" in page.text
        assert ops.get("items", id=wanted).url.startswith(page.url.partition("?")[0])
    assert ops.get("items", id="call:7").url.endswith("items/call%3A7")
    assert ops.get("items", id="no such / thing").status == 404


def test_an_operator_cancels_it_after_being_asked(
    ops: Visitor, visitors: Visitors, api: Api, queue: Queue
) -> None:
    with api.client("submit") as client:
        job = submitted(client)
    queue.client.sadd(keys.LISTS, "calls")
    page = ops.get(f"items/{job['uuid']}")
    asked = ops.press(page, "Cancel it")
    assert "queued on calls" in asked.text
    assert queue.client.llen("calls") == 1
    done = ops.press(asked, "Cancel 1 item")
    assert "Cancelled: 1" in done.text, done.text[:400]
    assert queue.client.llen("calls") == 0
    read = visitors("read").get(f"items/{job['uuid']}")
    assert not read.has_button("Cancel it")


def test_the_document_comes_from_a_storage_too(ops: Visitor, api: Api, queue: Queue) -> None:
    document = call()
    storage = Storage("index", Options(path=api.config.storages["index"].options["path"]))
    storage.open()
    storage.save_many([Document(document["uuid"], orjson.dumps(document), 1)])
    storage.close()
    page: Page = ops.get(f"items/{document['uuid']}")
    assert "read from index" in page.text
    sound = ops.http.get(f"/ui/items/{document['uuid']}/dialogs/0/recording")
    assert hashlib.sha256(sound.content).digest() == hashlib.sha256(tone()).digest()
