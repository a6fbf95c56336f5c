"""/v1/uploads where uploads are kept in a bucket (versitygw): presigned, shared, removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from conserver.outbound import upload_store
from conserver.outbound.fetch import FetchOptions, fetch
from tests.api.conftest import Api
from tests.clients import S3Access
from tests.helpers import eventually, free_port
from tests.queues import Queue
from tests.unit.links.stage import Context

INLINE = 1000
SMALL, LARGE = b"s" * 500, bytes(range(256)) * 40


@pytest.fixture
def s3_client(s3: S3Access, s3_bucket: str) -> Iterator[Any]:
    """A client of the S3, with the test's bucket made."""
    with closing(s3.client()) as client:
        client.create_bucket(Bucket=s3_bucket)
        yield client


@pytest.fixture
def environment(
    s3: S3Access, s3_client: Any, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """Settings that name the bucket, also for the links of this process."""
    assert s3_client
    found = {
        "CONSERVER_UPLOAD_BUCKET": f"{s3_bucket}/calls",
        "CONSERVER_UPLOAD_ENDPOINT_URL": s3.endpoint,
        "CONSERVER_INLINE_BYTES": str(INLINE),
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    monkeypatch.setenv("AWS_DEFAULT_REGION", s3.region)
    yield found
    upload_store.STORES.close()


@pytest.fixture
def api(serve: Callable[..., Api], environment: dict[str, str]) -> Api:
    """The application over the bucket."""
    return serve(**environment)


@pytest.fixture
def keys_of(s3_client: Any, s3_bucket: str) -> Callable[[], list[str]]:
    """The keys in the bucket."""

    def found() -> list[str]:
        listed = s3_client.list_objects_v2(Bucket=s3_bucket).get("Contents", ())
        return sorted(entry["Key"] for entry in listed)

    return found


def put(offer: dict[str, Any], content: bytes, **headers: str) -> int:
    """Send a recording to a presigned URL, as a caller does: without a token."""
    return httpx.put(offer["url"], content=content, headers=headers, timeout=60).status_code


def dialog_of(queue: Queue, job: dict[str, Any]) -> dict[str, Any]:
    """The dialog of the vCon that a job works on."""
    found: dict[str, Any] = json.loads(queue.client.get(f"vcon:{job['uuid']}"))["dialog"][0]
    return found


def test_a_recording_goes_past_the_api_and_becomes_a_job(
    submit: httpx.Client, queue: Queue, keys_of: Callable[[], list[str]], s3: S3Access
) -> None:
    offer = submit.post("/v1/uploads", json={"filename": "a/call 1.wav"}).json()
    assert offer["url"].startswith(s3.endpoint)
    name = offer["upload_id"]
    assert submit.post("/v1/jobs", json={"list": "calls", "upload": name}).status_code == 404
    assert put(offer, LARGE, **{"content-type": "audio/wav"}) == 200
    job = submit.post("/v1/jobs", json={"list": "calls", "upload": name}).json()
    dialog = dialog_of(queue, job)
    assert dialog["url"] == f"upload:{name}"
    assert (dialog["mediatype"], dialog["filename"]) == ("audio/wav", "call 1.wav")
    assert dialog["content_hash"].startswith("sha512-")
    assert keys_of() == [f"calls/{name}", f"calls/{name}.json"]

    # What a worker does with that address. No rule about private addresses is in its way.
    assert fetch(dialog["url"], FetchOptions(), Context()) == LARGE
    whole = submit.get(f"/v1/uploads/{name}")
    assert (whole.content, whole.headers["content-type"]) == (LARGE, "audio/wav")
    part = submit.get(f"/v1/uploads/{name}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, LARGE[10:20])


def test_a_small_one_is_a_part_of_its_vcon_and_does_not_stay(
    submit: httpx.Client, queue: Queue, keys_of: Callable[[], list[str]]
) -> None:
    offer = submit.post("/v1/uploads", json={"mediatype": "audio/ogg"}).json()
    assert put(offer, SMALL) == 200
    body = {"list": "calls", "upload": offer["upload_id"]}
    dialog = dialog_of(queue, submit.post("/v1/jobs", json=body).json())
    assert (dialog["mediatype"], "body" in dialog, "url" in dialog) == ("audio/ogg", True, False)
    assert keys_of() == []


def test_one_that_was_sent_again_before_its_job_is_the_last_one(
    submit: httpx.Client, clients: Callable[[str], httpx.Client], queue: Queue
) -> None:
    offer = submit.post("/v1/uploads").json()
    path = f"/v1/uploads/{offer['upload_id']}"
    assert put(offer, LARGE) == 200
    assert submit.get(path).content == LARGE
    assert put(offer, LARGE[1:]) == 200
    assert submit.get(path).content == LARGE[1:]
    assert clients("other").get(path).status_code == 404
    body = {"list": "calls", "upload": offer["upload_id"]}
    dialog = dialog_of(queue, submit.post("/v1/jobs", json=body).json())
    assert fetch(dialog["url"], FetchOptions(), Context()) == LARGE[1:]


def test_an_empty_one_is_an_upload_too(submit: httpx.Client) -> None:
    offer = submit.post("/v1/uploads").json()
    assert put(offer, b"") == 200
    path = f"/v1/uploads/{offer['upload_id']}"
    assert submit.get(path).content == b""
    assert submit.get(path, headers={"Range": "bytes=0-"}).status_code == 416
    body = {"list": "calls", "upload": offer["upload_id"]}
    assert submit.post("/v1/jobs", json=body).status_code == 202


def test_an_announced_size_is_signed(
    submit: httpx.Client, keys_of: Callable[[], list[str]]
) -> None:
    offer = submit.post("/v1/uploads", json={"bytes": len(LARGE)}).json()
    assert put(offer, LARGE + b"more") == 403
    assert put(offer, LARGE[1:]) == 403
    assert keys_of() == []
    assert put(offer, LARGE) == 200


def test_too_large_ones_are_refused_and_removed(
    serve: Callable[..., Api], environment: dict[str, str], keys_of: Callable[[], list[str]]
) -> None:
    api = serve(**environment, CONSERVER_UPLOAD_MAX_BYTES="2000")
    with api.client("submit") as submit:
        assert submit.post("/v1/uploads", json={"bytes": 2001}).status_code == 413
        offer = submit.post("/v1/uploads").json()
        assert put(offer, b"x" * 2001) == 200  # S3 knows no limit that nobody signed.
        body = {"list": "calls", "upload": offer["upload_id"]}
        refused = submit.post("/v1/jobs", json=body)
        assert (refused.status_code, refused.json()["max_bytes"]) == (413, 2000)
        assert keys_of() == []


def test_a_presigned_url_ends_in_time(
    serve: Callable[..., Api], environment: dict[str, str]
) -> None:
    api = serve(**environment, CONSERVER_UPLOAD_OFFER_S="1")
    with api.client("submit") as submit:
        offer = submit.post("/v1/uploads").json()
        eventually(lambda: put(offer, SMALL) == 403)
        own = f"/v1/uploads/{offer['upload_id']}"
        eventually(lambda: submit.put(own, content=SMALL).status_code == 404)


def test_replicas_without_a_common_folder_share_what_came_through_one(
    api: Api,
    serve: Callable[..., Api],
    environment: dict[str, str],
    tmp_path: Path,
    queue: Queue,
    keys_of: Callable[[], list[str]],
) -> None:
    other = serve(**environment, CONSERVER_UPLOAD_DIR=str(tmp_path / "other"))
    with api.client("submit") as one, other.client("submit") as two:
        form = {"file": ("call.wav", LARGE, "audio/wav")}
        job = one.post("/v1/jobs", data={"list": "calls"}, files=form).json()
        dialog = dialog_of(queue, job)
        path = f"/v1/uploads/{dialog['url'].removeprefix('upload:')}"
        found = two.get(path)
        assert (found.content, found.headers["content-type"]) == (LARGE, "audio/wav")
        # The API's own address still takes uploads, for callers whom the bucket is out of reach.
        own = two.post("/v1/uploads").json()["upload_id"]
        assert two.put(f"/v1/uploads/{own}", content=SMALL).json()["bytes"] == len(SMALL)
        assert one.get(f"/v1/uploads/{own}").content == SMALL
        assert len(keys_of()) == 4
        assert list((tmp_path / "uploads").iterdir()) == []
        # A form that is refused leaves nothing.
        refused = one.post("/v1/jobs", data={"list": "nowhere"}, files=form)
        assert (refused.status_code, len(keys_of())) == (404, 4)


def test_old_ones_are_swept(
    api: Api, submit: httpx.Client, keys_of: Callable[[], list[str]], s3_client: Any, s3_bucket: str
) -> None:
    for content in (SMALL, LARGE):
        assert put(submit.post("/v1/uploads").json(), content) == 200
    s3_client.put_object(Bucket=s3_bucket, Key="calls/note.txt", Body=b"of somebody else")
    assert api.context.uploads.sweep(3600) == 0
    assert api.context.uploads.sweep(-3600) == 2
    assert keys_of() == ["calls/note.txt"]


def test_callers_get_urls_of_the_public_endpoint(
    serve: Callable[..., Api], environment: dict[str, str]
) -> None:
    api = serve(**environment, CONSERVER_UPLOAD_PUBLIC_URL="https://s3.example.com/")
    with api.client("submit") as submit:
        url = submit.post("/v1/uploads").json()["url"]
    assert url.startswith("https://s3.example.com/")
    assert "X-Amz-Expires=86" in url


def test_a_bucket_that_is_away_is_told_without_its_address(
    serve: Callable[..., Api], environment: dict[str, str]
) -> None:
    gone = {"CONSERVER_UPLOAD_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    api = serve(**{**environment, **gone})
    with api.client("submit") as submit:
        name = submit.post("/v1/uploads").json()["upload_id"]
        form = {"file": ("call.wav", LARGE, "audio/wav")}
        for answer in (
            submit.get(f"/v1/uploads/{name}"),
            submit.post("/v1/jobs", json={"list": "calls", "upload": name}),
            submit.post("/v1/jobs", data={"list": "calls"}, files=form),
        ):
            assert (answer.status_code, answer.json()["type"]) == (503, "store-failed")
            assert "127.0.0.1" not in answer.text
            assert answer.headers["retry-after"] == "10"
