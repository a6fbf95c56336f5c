"""/v1/uploads: recordings that come first, in any size, whole or not at all."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import Api
from tests.helpers import TcpProxy, eventually
from tests.queues import Queue

CONTENT = bytes(range(256)) * 4


@pytest.fixture
def uploaded(submit: httpx.Client) -> str:
    """The path of a complete upload."""
    path = str(submit.post("/v1/uploads").json()["url"])
    answer = submit.put(
        path, content=CONTENT, headers={"Content-Type": "Audio/WAV; x=1", "X-Filename": "a/b.wav"}
    )
    assert answer.status_code == 201
    view = answer.json()
    assert (view["bytes"], view["mediatype"], view["filename"]) == (1024, "audio/wav", "b.wav")
    return path


def test_an_upload_comes_back(submit: httpx.Client, uploaded: str) -> None:
    answer = submit.get(uploaded)
    assert answer.content == CONTENT
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = submit.head(uploaded)
    assert (head.status_code, head.headers["content-length"]) == (200, "1024")


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=1000-", 206, slice(1000, None)),
        ("bytes=1000-9999", 206, slice(1000, None)),
        ("bytes=0-1023", 206, slice(None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=-9999", 206, slice(None)),
        ("bytes=1024-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-2", 200, slice(None)),
        ("bytes=--5", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        ("bytes=" + "9" * 5000 + "-", 200, slice(None)),
    ],
)
def test_ranges(
    submit: httpx.Client, uploaded: str, wanted: str, status: int, part: slice | None
) -> None:
    answer = submit.get(uploaded, headers={"Range": wanted})
    assert answer.status_code == status
    if part is None:
        assert answer.headers["content-range"] == "bytes */1024"
    else:
        assert answer.content == CONTENT[part]


def test_an_empty_upload(submit: httpx.Client) -> None:
    path = submit.post("/v1/uploads").json()["url"]
    assert submit.put(path, content=b"").json()["bytes"] == 0
    assert submit.get(path).content == b""
    assert submit.get(path, headers={"Range": "bytes=0-"}).status_code == 416


def test_who_may_send_and_fetch(clients: Callable[[str], httpx.Client], uploaded: str) -> None:
    assert clients("other").put(uploaded, content=b"x").status_code == 404
    assert clients("other").get(uploaded).status_code == 404
    assert clients("read").get(uploaded).status_code == 200
    assert clients("read").post("/v1/uploads").status_code == 403


def test_what_is_announced_holds(submit: httpx.Client) -> None:
    announced = {"bytes": 4, "mediatype": "audio/ogg", "filename": "b/call.ogg"}
    path = submit.post("/v1/uploads", json=announced).json()["url"]
    assert submit.put(path, content=b"five!").status_code == 413
    short = submit.put(path, content=b"two")
    assert (short.status_code, short.json()["type"]) == (422, "size")
    assert submit.get(path).status_code == 404
    view = submit.put(path, content=b"four").json()
    assert (view["bytes"], view["mediatype"], view["filename"]) == (4, "audio/ogg", "call.ogg")


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"bytes": -1}', b'{"size": 1}', b'{"filename": "' + b"x" * 1025 + b'"}']
)
def test_an_announcement_that_is_none(submit: httpx.Client, body: bytes) -> None:
    assert submit.post("/v1/uploads", content=body).status_code == 422


@pytest.mark.parametrize("name", ["0" * 32, "..", "%2e%2e%2fx", "a" * 31, "A" * 32, "%00"])
def test_what_was_not_announced(submit: httpx.Client, name: str) -> None:
    answer = submit.put(f"/v1/uploads/{name}", content=b"x")
    assert answer.status_code in (404, 405)
    assert submit.get(f"/v1/uploads/{name}").status_code in (404, 405)


def test_a_declared_size_beyond_the_limit_is_refused_at_once(
    serve: Callable[..., Api],
) -> None:
    api = serve(CONSERVER_UPLOAD_MAX_BYTES="1000")
    with api.client("submit") as client:
        path = client.post("/v1/uploads").json()["url"]
        answer = client.put(path, content=b"x" * 1001)
        assert (answer.status_code, answer.json()["max_bytes"]) == (413, 1000)

        def pieces() -> Any:
            yield from [b"x" * 400] * 3

        assert client.put(path, content=pieces()).status_code == 413
        assert client.put(path, content=b"x" * 1000).status_code == 201
        form = {"file": ("a.wav", b"x" * 2000)}
        assert client.post("/v1/jobs", data={"list": "calls"}, files=form).status_code == 413
        assert len(list(api.context.uploads.folder.iterdir())) == 2


def test_a_client_that_leaves_half_way_leaves_nothing(submit: httpx.Client, api: Api) -> None:
    path = submit.post("/v1/uploads").json()["url"]
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    with socket.create_connection((api.host, api.port)) as half:
        half.sendall(head.encode() + b"Authorization: Bearer text-submit\r\n\r\nhalf")
        eventually(lambda: list(api.context.uploads.folder.glob(".*")))
    eventually(lambda: not list(api.context.uploads.folder.iterdir()))


def test_a_store_that_cannot_take_it_says_so(submit: httpx.Client, api: Api) -> None:
    api.context.uploads.folder.write_text("no folder")
    path = submit.post("/v1/uploads").json()["url"]
    answer = submit.put(path, content=b"x")
    assert (answer.status_code, answer.json()["type"]) == (507, "store-failed")
    assert str(api.context.uploads.folder) not in answer.text
    for size, status in ((2 << 20, 507), (1 << 10, 202)):  # The second one needs no store.
        form = {"file": ("a.wav", bytes(size))}
        answer = submit.post("/v1/jobs", data={"list": "calls"}, files=form)
        assert answer.status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
        b"--x\r\n" + b"A: b\r\n" * 100 + b"\r\n\r\n--x--",
        b"--x\r\n" + b"A: " + b"b" * 20_000 + b"\r\n\r\n\r\n--x--",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n' * 200 + b"--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nv\r\n' * 2
        + b"--x--\r\n",
        b"\x00" * 1000,
    ],
)
def test_forms_that_are_none_leave_nothing(submit: httpx.Client, api: Api, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = submit.post("/v1/jobs", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    folder = api.context.uploads.folder
    assert not folder.exists() or list(folder.iterdir()) == []


def test_many_fields_do_not_fill_the_memory(submit: httpx.Client) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"v" * 900_000 + b"\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = submit.post("/v1/jobs", content=part * 5 + b"--x--\r\n", headers=headers)
    assert answer.status_code == 413


def test_a_form_without_a_boundary(submit: httpx.Client) -> None:
    answer = submit.post("/v1/jobs", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert (answer.status_code, answer.json()["type"]) == (422, "bad-form")


def test_a_strange_media_type_cannot_break_the_answer(submit: httpx.Client, api: Api) -> None:
    path = submit.post("/v1/uploads").json()["url"]
    submit.put(path, content=b"x", headers={b"Content-Type": "\xfctext/html\xe9".encode("latin-1")})
    answer = submit.get(path)
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/audio/transcriptions"])
def test_a_recording_stays_where_nobody_knows_whether_its_job_was_made(
    serve: Callable[..., Api], redis_url: str, queue: Queue, route: str
) -> None:
    sent: dict[str, Any] = {"data": {"list": "calls"}, "files": {"file": ("a.wav", b"x" * 5000)}}
    with TcpProxy(int(redis_url.rpartition(":")[2].partition("/")[0])) as proxy:
        api = serve(url=proxy.url(redis_url), CONSERVER_INLINE_BYTES="1000")
        folder = api.context.uploads.folder
        with api.client("submit") as client:
            queue.make_key("calls", "string")  # It is refused: there is no job.
            assert client.post(route, **sent).status_code in (400, 409)
            assert list(folder.iterdir()) == []
            queue.client.delete("calls")
            proxy.cut_after(b"upload:")
            assert client.post(route, **sent).status_code == 503
            assert proxy.cuts_done == 1
    (item,) = queue.waiting("calls")
    [dialog] = json.loads(queue.client.get(f"vcon:{item.decode().partition('#')[0]}"))["dialog"]
    assert (folder / dialog["url"].removeprefix("upload:")).read_bytes() == b"x" * 5000
