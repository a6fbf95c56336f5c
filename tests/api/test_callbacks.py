"""Callbacks over HTTP: what is taken, what is refused before anything runs, what is never shown."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from conserver.outbound import callback as callbacks
from conserver.queue import calls, keys
from tests.api.conftest import Api
from tests.daemon import vcon
from tests.queues import Consumer, Queue

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
QUERY = "X-Amz-Signature=0123456789abcdef&X-Amz-Credential=AKIA%2F2026"
URL = f"https://bucket.example.com/result.json?{QUERY}"
OLD = "X-Amz-Date=20260102T030405Z&X-Amz-Expires=600"
HOOK = "https://crm.example.com/told?key=0123456789abcdef"


def presigned(expires_s: int) -> str:
    """A presigned URL that was made just now."""
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{URL}&X-Amz-Date={stamp}&X-Amz-Expires={expires_s}"


@pytest.fixture
def ann(serve: Callable[..., Api]) -> Iterator[httpx.Client]:
    """Who may submit, where webhooks are signed."""
    with serve(CONSERVER_WEBHOOK_SECRET=SECRET).client("submit") as client:
        yield client


def post(client: httpx.Client, **more: Any) -> httpx.Response:
    return client.post("/v1/jobs", json={"list": "calls", "vcon": vcon(), **more})


def kept(queue: Queue, job: str) -> callbacks.Callback:
    """The callback in the job's hash."""
    return callbacks.load(queue.client.hget(keys.job(job), "callback"))


def test_a_presigned_url_is_kept_with_its_job(ann: httpx.Client, queue: Queue) -> None:
    url = presigned(600)
    job = post(ann, upload_presigned_url=url, response_format="vtt").json()["id"]
    found = kept(queue, job)
    assert (found.kind, found.result_format) == ("put", "vtt")
    assert found.url.get_secret_value() == url
    until_ms = int(queue.client.hget(keys.job(job), "callback_until_ms"))
    assert 0 < until_ms / 1000 - time.time() <= 601


def test_a_form_has_one_too(ann: httpx.Client, queue: Queue) -> None:
    form = {"list": "calls", "upload_presigned_url": URL, "response_format": "srt"}
    answer = ann.post("/v1/jobs", data=form, files={"file": ("a.wav", b"RIFF", "audio/wav")})
    assert answer.status_code == 202, answer.text
    assert kept(queue, answer.json()["id"]).result_format == "srt"
    told = {"list": "calls", "callback": json.dumps({"url": HOOK, "events": ["failed"]})}
    answer = ann.post("/v1/jobs", data=told, files={"file": ("a.wav", b"RIFF", "audio/wav")})
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    assert queue.client.hget(keys.job(job), "callback_on") == b"failed"


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"upload_presigned_url": "ftp://example.com/"}, "upload_presigned_url"),
        ({"upload_presigned_url": URL, "response_format": "pdf"}, "response_format"),
        ({"upload_presigned_url": URL, "callback": {"url": HOOK}}, "one of callback"),
        ({"upload_presigned_url": f"{URL}&{OLD}"}, "has expired at"),
        ({"upload_presigned_url": f"http://127.0.0.1/?{QUERY}"}, "own networks"),
        ({"callback": {"url": f"http://[::1]/?{QUERY}"}}, "own networks"),
        ({"callback": {"url": HOOK, "key": "crm"}}, "no secret is named crm"),
        ({"callback": {"url": HOOK, "secret": SECRET}}, "callback/secret"),
        ({"callback": {"url": HOOK, "events": ["begun"]}}, "callback/events"),
        ({"callback": {}}, "callback/url"),
        ({"callback": "x"}, "callback"),
    ],
)
def test_what_can_never_arrive_is_refused_before_anything_runs(
    ann: httpx.Client, queue: Queue, given: dict[str, Any], what: str
) -> None:
    answer = post(ann, **given)
    assert answer.status_code == 422
    assert what in answer.text
    assert "Value error" not in answer.text
    assert "0123456789abcdef" not in answer.text
    assert queue.waiting("calls") == []
    assert not list(queue.client.scan_iter("conserver:job:*"))


def test_a_webhook_needs_a_secret(serve: Callable[..., Api]) -> None:
    with serve().client("submit") as client:
        answer = post(client, callback={"url": HOOK})
    assert answer.status_code == 422
    assert "CONSERVER_WEBHOOK_SECRET" in answer.json()["detail"]


def test_where_callbacks_are_off_none_is_taken(serve: Callable[..., Api]) -> None:
    with serve(CONSERVER_CALLBACKS="false").client("submit") as client:
        answer = post(client, upload_presigned_url=URL)
    assert answer.status_code == 422
    assert "CONSERVER_CALLBACKS" in answer.json()["detail"]


def test_no_answer_shows_the_address_or_the_query(
    ann: httpx.Client, queue: Queue, capfd: pytest.CaptureFixture[str]
) -> None:
    made = post(ann, upload_presigned_url=URL, job_id="mine")
    again = ann.post("/v1/jobs", json={"list": "calls", "vcon": vcon(), "job_id": "mine"})
    texts = [made.text, again.text]
    texts += [ann.get(path).text for path in ("/v1/jobs/mine", "/v1/jobs", "/v1/jobs/mine/result")]
    one = Consumer(queue, lists=("calls",))
    one.dead_letter(one.one(), why="boom")
    texts.append(ann.get("/v1/jobs/mine").text)
    texts += capfd.readouterr()
    assert all("0123456789abcdef" not in text and "AKIA" not in text for text in texts)


def test_a_job_says_what_became_of_its_notification(ann: httpx.Client, queue: Queue) -> None:
    post(ann, upload_presigned_url=URL, job_id="mine")
    assert ann.get("/v1/jobs/mine").json()["notification"] is None
    one = Consumer(queue, lists=("calls",))
    one.settle(one.one())
    assert ann.get("/v1/jobs/mine").json()["notification"] == {"status": "queued", "error": ""}
    seq = int(queue.client.hget(keys.job("mine"), "notification_seq"))
    queue.run(calls.told("mine", seq, "failed", orjson.dumps({"error": f"PUT {URL}: HTTP 403"})))
    found = ann.get("/v1/jobs/mine").json()["notification"]
    assert found["status"] == "failed"
    assert "HTTP 403" in found["error"]
    assert "0123456789abcdef" not in found["error"]


def test_nobody_submits_notifications(ann: httpx.Client) -> None:
    answer = ann.post("/v1/jobs", json={"list": keys.NOTIFICATIONS, "vcon": vcon()})
    assert answer.status_code == 404


def test_its_description_is_whole(ann: httpx.Client) -> None:
    """References into a model of ours would lead nowhere in OpenAPI's document."""
    schema = ann.get("/openapi.json")
    assert '"#/$defs' not in schema.text
    post = schema.json()["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    callback = post["application/json"]["schema"]["properties"]["callback"]["anyOf"][0]
    assert {"url", "kind", "format", "events", "headers", "key"} == callback["properties"].keys()
