"""GET /v1/search, over a real SQLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from conserver.testing.searching import make_call
from storage.sqlite import Options, Storage
from tests.api.conftest import Api


def test_what_was_said_is_found(api: Api, clients: Callable[[str], httpx.Client]) -> None:
    path = api.config.storages["index"].options["path"]
    storage = Storage("index", Options(path=path))
    storage.open()
    calls = [make_call("where is my parcel", subject=f"call {number}") for number in range(3)]
    for call in calls:
        storage.save_many([call])
    storage.close()
    read = clients("read")
    first = read.get("/v1/search", params={"q": "PARCEL", "limit": 2}).json()
    assert first["storage"] == "index"
    assert [hit["uuid"] for hit in first["hits"]] == [calls[2].uuid, calls[1].uuid]
    hit = first["hits"][0]
    assert [hit["snippet"][begin:end] for begin, end in hit["marks"]] == ["parcel"]
    last = read.get("/v1/search", params={"q": "parcel", "cursor": first["next"]}).json()
    assert [hit["uuid"] for hit in last["hits"]] == [calls[0].uuid]
    assert last["next"] is None
    assert read.get("/v1/search", params={"q": "zebra"}).json()["hits"] == []


def test_without_a_storage_that_can_search(serve: Callable[..., Api], tmp_path: Path) -> None:
    cannot = {"module": "storage.file", "options": {"path": str(tmp_path)}}
    with serve(config={"storages": {"index": cannot}}).client("read") as client:
        answer = client.get("/v1/search", params={"q": "x"})
    assert (answer.status_code, answer.json()["type"]) == (404, "not-found")


def test_what_cannot_be_asked(clients: Callable[[str], httpx.Client]) -> None:
    read = clients("read")
    for query in ({"q": "x", "cursor": "zebra"}, {"q": "x", "storage": "files"}, {}):
        assert read.get("/v1/search", params=query).status_code == 422
    assert clients("submit").get("/v1/search", params={"q": "x"}).status_code == 403
