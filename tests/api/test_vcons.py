"""/v1/vcons: documents by their uuid, kept byte for byte."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import Api, document
from tests.queues import Consumer, Queue

Clients = Callable[[str], httpx.Client]
BODY = b'{ "uuid": "u1",\n "vcon": "0.3.0", "n": 123456789012345678901234567890 }'


def test_the_bytes_are_kept(admin: httpx.Client, queue: Queue) -> None:
    assert admin.post("/v1/vcons", content=BODY).status_code == 201
    answer = admin.get("/v1/vcons/u1")
    assert answer.content == BODY
    assert answer.headers["x-source"] == "redis"
    head = admin.head("/v1/vcons/u1")
    assert (head.headers["content-length"], head.content) == (str(len(BODY)), b"")
    tag = answer.headers["etag"]
    again = admin.get("/v1/vcons/u1", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert queue.client.ttl("vcon:u1") > 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{}", 422),
        (b'{"uuid": 7}', 422),
        (b'{"uuid": "../x"}', 422),
        (b'{"uuid": "u1"', 422),
        (b'{"uuid": "u1", "a": NaN}', 422),
        (b"[" * 200_000, 422),
        (b'{"uuid":"u1","a":' + b"[" * 900 + b"]" * 900 + b"}", 201),
    ],
)
def test_what_is_a_vcon(submit: httpx.Client, body: bytes, status: int) -> None:
    assert submit.post("/v1/vcons", content=body).status_code == status


def test_a_document_beyond_the_limit(serve: Callable[..., Api]) -> None:
    api = serve(CONSERVER_MAX_DOCUMENT_BYTES="1000")
    with api.client("submit") as client:
        assert client.post("/v1/vcons", content=document(subject="x" * 1000)).status_code == 413
        body = {"list": "calls", "vcon": {"uuid": "u", "subject": "x" * 1000}}
        assert client.post("/v1/jobs", json=body).status_code == 413


def test_conditions(admin: httpx.Client) -> None:
    new, path = {"If-None-Match": "*"}, "/v1/vcons/u1"
    first = admin.put(path, content=BODY, headers=new)
    assert first.status_code == 201
    assert admin.put(path, content=BODY, headers=new).status_code == 412
    tag = first.headers["etag"]
    second = admin.put(path, content=BODY + b" ", headers={"If-Match": tag})
    assert second.status_code == 200
    assert admin.put(path, content=BODY, headers={"If-Match": tag}).status_code == 412
    assert admin.put(path, content=BODY, headers={"If-Match": "*"}).status_code == 200
    absent = admin.put("/v1/vcons/u2", content=b'{"uuid":"u2"}', headers={"If-Match": "*"})
    assert absent.status_code == 412
    assert admin.put("/v1/vcons/u2", content=BODY).status_code == 422


def test_of_many_that_change_the_same_document_one_wins(api: Api, admin: httpx.Client) -> None:
    tag = admin.put("/v1/vcons/u1", content=BODY).headers["etag"]
    statuses: list[int] = []

    def change(number: int) -> None:
        with api.client("admin") as client:
            body = BODY + b" " * number
            answer = client.put("/v1/vcons/u1", content=body, headers={"If-Match": tag})
            statuses.append(answer.status_code)

    threads = [threading.Thread(target=change, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [412] * 7


def test_a_document_that_waits_gets_no_expiry(submit: httpx.Client, queue: Queue) -> None:
    queue.store("u1")
    queue.push("calls", "u1")
    assert submit.put("/v1/vcons/u1", content=BODY).status_code == 200
    assert queue.client.ttl("vcon:u1") == -1


def test_a_document_that_is_worked_on_gets_no_expiry(
    submit: httpx.Client, queue: Queue, worker: Consumer
) -> None:
    queue.store("u1")
    queue.push("calls", "u1")
    worker.write(worker.one(), b'{"uuid":"u1","a":1}')
    assert submit.put("/v1/vcons/u1", content=BODY).status_code == 200
    assert queue.client.ttl("vcon:u1") == -1


def test_a_key_of_another_type_is_not_overwritten(submit: httpx.Client, queue: Queue) -> None:
    queue.make_key("vcon:u1", "hash")
    assert submit.put("/v1/vcons/u1", content=BODY).status_code == 409
    assert queue.client.type("vcon:u1") == b"hash"


def test_a_storage_is_read_and_deleted_from(
    admin: httpx.Client, api: Api, queue: Queue, tmp_path: Path
) -> None:
    from storage.contract import Document
    from storage.file import Options, Storage

    storage = Storage("files", Options.model_validate({"path": str(tmp_path / "files")}))
    storage.open()
    storage.save_many([Document("u1", BODY, 1)])
    assert admin.get("/v1/vcons/u1").headers["x-source"] == "files"
    assert admin.delete("/v1/vcons/u1").status_code == 204
    assert storage.get("u1") is None
    assert admin.get("/v1/vcons/u1").status_code == 404
    assert admin.delete("/v1/vcons/u1").status_code == 204
    storage.close()


def test_conditions_are_about_what_a_storage_has_too(
    admin: httpx.Client, queue: Queue, tmp_path: Path
) -> None:
    from storage.contract import Document
    from storage.file import Options, Storage

    storage = Storage("files", Options.model_validate({"path": str(tmp_path / "files")}))
    storage.open()
    storage.save_many([Document("u1", BODY, 1)])
    storage.close()
    tag = admin.get("/v1/vcons/u1").headers["etag"]
    for header, value in (("If-None-Match", "*"), ("If-Match", '"another"')):
        answer = admin.put("/v1/vcons/u1", content=BODY, headers={header: value})
        assert (header, answer.status_code) == (header, 412)
    assert not queue.client.exists("vcon:u1")
    assert admin.put("/v1/vcons/u1", content=BODY, headers={"If-Match": tag}).status_code == 201


def test_what_is_deleted_is_not_found_by_its_parties(admin: httpx.Client, queue: Queue) -> None:
    body = {"vcon": "0.4.0", "uuid": "u1", "parties": [{"name": "Ada"}]}
    assert admin.post("/vcon", json=body).status_code == 201
    assert admin.get("/vcons/search", params={"name": "Ada"}).json() == ["u1"]
    assert admin.delete("/v1/vcons/u1").status_code == 204
    assert admin.get("/vcons/search", params={"name": "Ada"}).json() == []
    assert not queue.client.exists("conserver:index:name:Ada", "conserver:indexed:u1")


def test_a_storage_that_fails_is_named(admin: httpx.Client, queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("no folder")
    queue.store("u1")
    answer = admin.delete("/v1/vcons/u1")
    assert answer.status_code == 502
    assert answer.json()["failed"] == ["files"]
    assert answer.json()["deleted"] == ["redis"]
    assert admin.get("/v1/vcons/u1").status_code == 502


def test_who_may_what(clients: Clients) -> None:
    path = "/v1/vcons/u1"
    assert clients("read").post("/v1/vcons", content=BODY).status_code == 403
    assert clients("submit").put(path, content=BODY).status_code == 201
    assert clients("submit").get(path).status_code == 403
    assert clients("operate").delete(path).status_code == 403
    assert clients("narrow").post("/v1/vcons?list=calls", content=BODY).status_code == 403
    assert clients("submit").post("/v1/vcons?list=call", content=BODY).status_code == 404
