"""/v1/jobs: what is taken, what is refused, how a job is followed, listed and cancelled."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from conserver.operations.jobs import LOOKED_AT_MAX
from conserver.queue import keys
from tests.api.conftest import Api, document, submitted
from tests.daemon import vcon
from tests.helpers import eventually
from tests.queues import Consumer, Queue

Clients = Callable[[str], httpx.Client]


def stored_vcon(queue: Queue, uuid: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(queue.client.get(f"vcon:{uuid}"))
    return found


# ---- submitting ----


def test_a_vcon_becomes_a_job(submit: httpx.Client, queue: Queue) -> None:
    given = vcon()
    answer = submit.post("/v1/jobs", json={"list": "calls", "vcon": given})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert answer.headers["retry-after"] == "2"
    assert (job["status"], job["by"], job["uuid"]) == ("queued", "ann", given["uuid"])
    assert job["job_id"] == job["id"]
    assert queue.waiting("calls") == [f"{job['uuid']}#{job['id']}".encode()]
    assert stored_vcon(queue, job["uuid"]) == given


@pytest.mark.parametrize(
    "member",
    [
        b"123456789012345678901234567890",
        b"-0.1000000000000000000000000001",
        b"1e0040",
        b'{"b" :\t[1, 2.50 ], "vcon": "\xc3\xa4\\"}"}',
        b"9" * 300,
    ],
    ids=["integer", "fraction", "exponent", "spelling", "long"],
)
def test_a_vcon_is_kept_as_it_was_sent(submit: httpx.Client, queue: Queue, member: bytes) -> None:
    vcon = b'{ "uuid":"u1", "x":' + member + b"}"
    sent = b' {"vcon" : {"uuid":"u0"},"list":"calls",\n"vcon":' + vcon + b' , "meta":null}'
    answer = submit.post("/v1/jobs", content=sent)
    assert answer.status_code == 202, answer.text
    assert queue.client.get("vcon:u1") == vcon


def test_the_uuid_of_a_stored_vcon_becomes_a_job(submit: httpx.Client, queue: Queue) -> None:
    queue.store("u1")
    job = submit.post("/v1/jobs", json={"list": "calls", "uuid": "u1", "job_id": "mine"}).json()
    assert (job["id"], job["uuid"]) == ("mine", "u1")
    assert queue.waiting("calls") == [b"u1#mine"]


def test_an_address_becomes_a_vcon_that_names_it(submit: httpx.Client, queue: Queue) -> None:
    body = {
        "list": "calls",
        "url": "https://example.com/a/call.wav?sig=secret",
        "mediatype": "audio/wav; x=1",
        "meta": {"ticket": 7},
    }
    job = submit.post("/v1/jobs", json=body).json()
    made = stored_vcon(queue, job["uuid"])
    [dialog] = made["dialog"]
    assert (dialog["url"], dialog["mediatype"]) == (body["url"], "audio/wav")
    assert made["subject"] == "call.wav"
    assert json.loads(made["attachments"][0]["body"]) == {"ticket": 7}


def test_a_form_becomes_a_vcon_with_the_recording(
    submit: httpx.Client, queue: Queue, api: Api
) -> None:
    content = b"RIFF" + bytes(range(256)) * 64
    answer = submit.post(
        "/v1/jobs",
        data={"list": "calls", "job_id": "j1", "meta": '{"a": 1}'},
        files={"file": ("../../etc/call.wav", content, "audio/wav")},
    )
    assert answer.status_code == 202
    [dialog] = stored_vcon(queue, answer.json()["uuid"])["dialog"]
    padded = dialog["body"] + "=" * (-len(dialog["body"]) % 4)
    assert base64.urlsafe_b64decode(padded) == content
    assert (dialog["filename"], dialog["mediatype"]) == ("call.wav", "audio/wav")
    assert not api.context.uploads.folder.exists(), "it was kept in memory"


def test_a_form_with_too_deep_an_object_is_refused(submit: httpx.Client, queue: Queue) -> None:
    deep = '{"a":' * 400 + "1" + "}" * 400
    data, files = {"list": "calls", "meta": deep}, {"file": ("call.wav", b"RIFF", "audio/wav")}
    answer = submit.post("/v1/jobs", data=data, files=files)
    assert (answer.status_code, answer.json()["type"]) == (422, "invalid")
    assert queue.waiting("calls") == []


@pytest.mark.parametrize(
    ("field", "hint"),
    [("callbak", "did you mean `callback`?"), ("uuid", "meta"), ("url", "list")],
)
def test_a_form_with_an_unknown_field_is_refused(
    submit: httpx.Client, queue: Queue, field: str, hint: str
) -> None:
    fields: list[tuple[str, tuple[str | None, bytes]]]
    fields = [("list", (None, b"calls")), (field, (None, b"{}")), ("file", ("call.wav", b"RIFF"))]
    for form in (fields, fields[::-1]):
        answer = submit.post("/v1/jobs", files=form)
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid")
        assert [one["pointer"] for one in answer.json()["errors"]] == [field]
        assert answer.json()["detail"].startswith(f"{field}: is not known here (")
        assert hint in answer.json()["detail"]
    assert queue.waiting("calls") == []


def test_an_unknown_member_is_refused_with_a_suggestion(submit: httpx.Client) -> None:
    body = {"list": "calls", "uuid": "u", "callbak": {}, "metta": {}}
    told = submit.post("/v1/jobs", json=body).json()
    assert told["detail"] == "callbak: is not known here (did you mean `callback`?)"
    assert [one["pointer"] for one in told["errors"]] == ["callbak", "metta"]
    many = {f"{number}" * 200: 0 for number in range(5000)}
    assert len(submit.post("/v1/jobs", json=many).content) < 5000


def test_a_larger_recording_stays_an_upload(
    serve: Callable[..., Api], queue: Queue, tmp_path: Path
) -> None:
    api = serve(CONSERVER_INLINE_BYTES="1000")
    content = b"x" * 5000
    with api.client("submit") as client:
        job = client.post(
            "/v1/jobs", data={"list": "calls"}, files={"file": ("a.wav", content)}
        ).json()
    [dialog] = stored_vcon(queue, job["uuid"])["dialog"]
    assert "body" not in dialog
    upload = dialog["url"].removeprefix("upload:")
    assert (tmp_path / "uploads" / upload).read_bytes() == content
    digest = base64.urlsafe_b64encode(hashlib.sha512(content).digest()).rstrip(b"=").decode()
    assert dialog["content_hash"] == f"sha512-{digest}"


def test_an_upload_becomes_a_job_and_is_kept_until_it_is_one(
    serve: Callable[..., Api], queue: Queue
) -> None:
    api = serve(CONSERVER_LIST_CAP="1")
    with api.client("submit") as client:
        offer = client.post("/v1/uploads").json()
        assert client.put(offer["url"], content=b"sound").status_code == 201
        queue.push("calls", "another")
        body = {"list": "calls", "upload": offer["upload_id"]}
        assert client.post("/v1/jobs", json=body).status_code == 503
        queue.client.delete("calls")
        assert client.post("/v1/jobs", json=body).status_code == 202
        assert client.post("/v1/jobs", json=body).status_code == 404  # It is a part of its vCon.


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 422, "not-json"),
        (b"{", 422, "not-json"),
        (b"[]", 422, "invalid"),
        (b"\xff", 422, "not-json"),
        (b"[" * 100_000, 422, "not-json"),
        (b'{"list":"calls"}', 422, "one-source"),
        (b'{"list":"calls","uuid":"u","url":"http://x"}', 422, "one-source"),
        (b'{"uuid":"u"}', 422, "invalid"),
        (b'{"list":"calls","uuid":"../x"}', 422, "invalid"),
        (b'{"list":"calls","uuid":"u","more":1}', 422, "invalid"),
        (b'{"list":"calls","uuid":"u","job_id":"a b"}', 422, "invalid"),
        (b'{"list":"calls","uuid":"u","not_before":"2030-01-01T00:00:00"}', 422, "invalid"),
        (b'{"list":"calls","url":"file:///etc/passwd"}', 422, "invalid"),
        (b'{"list":"calls","url":"upload:00"}', 422, "invalid"),
        (b'{"list":"calls","upload":"../../etc/passwd"}', 404, "upload-unknown"),
        (b'{"list":"calls","upload":"' + b"0" * 32 + b'"}', 404, "upload-unknown"),
        (b'{"list":"call","uuid":"u"}', 404, "list-unknown"),
        (b'{"list":"DLQ:calls","uuid":"u"}', 404, "list-unknown"),
        (b'{"list":"conserver:jobs","uuid":"u"}', 404, "list-unknown"),
        (b'{"list":"calls","vcon":{"uuid":"u"}}', 202, ""),
        (b'{"list":"calls","vcon":{}}', 422, "no-vcon"),
        (b'{"list":"calls","vcon":' + b'{"a":' * 400 + b"1" + b"}" * 400 + b"}", 422, "invalid"),
        (
            b'{"list":"calls","url":"http://x","meta":' + b'{"a":' * 400 + b"1" + b"}" * 401,
            422,
            "invalid",
        ),
    ],
)
def test_what_is_no_job(
    submit: httpx.Client, queue: Queue, body: bytes, status: int, kind: str
) -> None:
    answer = submit.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if kind:
        told = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (told["type"], told["status"]) == (kind, status)
        assert told["request_id"] == answer.headers["x-request-id"]
        assert queue.waiting("calls") == []


def test_a_list_at_its_cap_asks_to_come_again(serve: Callable[..., Api], queue: Queue) -> None:
    api = serve(CONSERVER_LIST_CAP="1")
    with api.client("submit") as client:
        submitted(client)
        answer = client.post("/v1/vcons", params={"list": "calls"}, content=document())
    assert (answer.status_code, answer.json()["type"]) == (503, "list-full")
    assert int(answer.headers["retry-after"]) > 0
    assert len(queue.waiting("calls")) == 1
    assert len(list(queue.client.scan_iter("vcon:*"))) == 1


def test_a_job_of_later_is_parked(submit: httpx.Client, queue: Queue) -> None:
    body = {"list": "calls", "vcon": vcon(), "not_before": "2090-01-01T00:00:00+02:00"}
    job = submit.post("/v1/jobs", json=body).json()
    assert (job["status"], job["retry_at"]) == ("waiting", "2089-12-31T22:00:00.000Z")
    assert queue.waiting("calls") == []
    assert len(queue.parked("calls")) == 1


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_any_date_will_do(submit: httpx.Client, when: str) -> None:
    body = {"list": "calls", "vcon": vcon(), "not_before": when}
    assert submit.post("/v1/jobs", json=body).status_code == 202


def test_a_large_document_never_passes_through_lua(submit: httpx.Client, queue: Queue) -> None:
    body = document(subject="x" * 300_000)
    answer = submit.post("/v1/vcons", params={"list": "calls"}, content=body)
    assert answer.status_code == 202
    uuid = answer.json()["uuid"]
    assert queue.client.get(f"vcon:{uuid}") == body
    assert queue.client.ttl(f"vcon:{uuid}") == -1
    assert list(queue.client.scan_iter("conserver:incoming:*")) == []


# ---- the same again ----


def test_a_job_id_is_taken_once(submit: httpx.Client, clients: Clients, queue: Queue) -> None:
    body = {"list": "calls", "vcon": vcon(), "job_id": "j1"}
    assert submit.post("/v1/jobs", json=body).status_code == 202
    assert submit.post("/v1/jobs", json=body).status_code == 200
    assert submit.post("/v1/jobs", json=body | {"vcon": vcon()}).status_code == 409
    assert submit.post("/v1/jobs", json=body | {"list": "other"}).status_code == 409
    assert clients("other").post("/v1/jobs", json=body).status_code == 409
    assert len(queue.waiting("calls")) == 1


@pytest.mark.parametrize("named", [{"Idempotency-Key": '"key"'}, {}])
def test_the_same_request_again_is_the_same_job(
    submit: httpx.Client, queue: Queue, named: dict[str, str]
) -> None:
    body = {"list": "calls", "url": "https://example.com/a.wav"}
    if not named:
        body["job_id"] = "j1"
    first = submit.post("/v1/jobs", json=body, headers=named)
    again = submit.post("/v1/jobs", json=body, headers=named)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert len(queue.waiting("calls")) == 1


def test_the_same_form_again_is_the_same_job(submit: httpx.Client, queue: Queue, api: Api) -> None:
    answers = [
        submit.post(
            "/v1/jobs",
            data={"list": "calls"},
            files={"file": ("a.wav", b"sound")},
            headers={"Idempotency-Key": "k"},
        )
        for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [202, 200]
    assert answers[0].json()["uuid"] == answers[1].json()["uuid"]
    assert not api.context.uploads.folder.exists(), "it was kept in memory"
    assert len(queue.waiting("calls")) == 1


@pytest.mark.parametrize("named", [{"Idempotency-Key": "k"}, {}])
@pytest.mark.parametrize("change", [{"meta": '{"b": 2}'}, {"response_format": "srt"}])
def test_another_form_with_the_same_recording_is_another_request(
    submit: httpx.Client, named: dict[str, str], change: dict[str, str]
) -> None:
    form = {"list": "calls", "meta": '{"a": 1}', **({} if named else {"job_id": "j1"})}
    statuses = [
        submit.post("/v1/jobs", data=data, files={"file": ("a.wav", b"sound")}, headers=named)
        for data in (form, form | change, form)
    ]
    refused = 422 if named else 409
    assert [one.status_code for one in statuses] == [202, refused, 200]


def test_a_newer_vcon_is_not_taken_for_the_one_of_the_job(
    submit: httpx.Client, queue: Queue
) -> None:
    first = vcon()
    newer = {**first, "subject": "newer"}

    def in_a_job(one: dict[str, Any]) -> httpx.Response:
        return submit.post("/v1/jobs", json={"list": "calls", "vcon": one, "job_id": "j1"})

    def alone(one: dict[str, Any]) -> httpx.Response:
        return submit.post("/v1/vcons?list=calls&job=j2", json=one)

    for send in (in_a_job, alone):
        assert [send(one).status_code for one in (first, newer, first)] == [202, 409, 200]
        assert b"newer" not in queue.client.get(f"vcon:{first['uuid']}")


def test_a_recording_that_is_gone_by_then_is_refused(serve: Callable[..., Api]) -> None:
    api = serve(CONSERVER_INLINE_BYTES="3", CONSERVER_UPLOAD_EXPIRY_S="86400")
    soon = datetime.now(UTC) + timedelta(hours=23)
    with api.client("submit") as client:
        statuses = [
            client.post(
                "/v1/jobs",
                data={"list": "calls", "not_before": when.isoformat()},
                files={"file": ("a.wav", content)},
            ).status_code
            for content in (b"sound", b"abc")
            for when in (soon, soon + timedelta(hours=2))
        ]
    assert statuses == [202, 422, 202, 202]
    assert len(list(api.context.uploads.folder.glob("*.json"))) == 1


def test_an_upload_is_submitted_once_under_a_key(submit: httpx.Client, queue: Queue) -> None:
    offer = submit.post("/v1/uploads").json()
    submit.put(offer["url"], content=b"sound")
    body = {"list": "calls", "upload": offer["upload_id"]}
    key = {"Idempotency-Key": "k"}
    statuses = [submit.post("/v1/jobs", json=body, headers=key).status_code for _ in range(2)]
    assert statuses == [202, 200]
    assert len(queue.waiting("calls")) == 1


def test_a_key_belongs_to_one_request_of_one_token(submit: httpx.Client, clients: Clients) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"list": "calls", "uuid": "u1"}
    first = submit.post("/v1/jobs", json=body, headers=key).json()
    answer = submit.post("/v1/jobs", json=body | {"uuid": "u2"}, headers=key)
    assert (answer.status_code, answer.json()["type"]) == (422, "idempotency-conflict")
    other = clients("other").post("/v1/jobs", json=body, headers=key)
    assert other.status_code == 202
    assert other.json()["id"] != first["id"]


def test_a_request_that_was_refused_does_not_take_its_key(submit: httpx.Client) -> None:
    key = {"Idempotency-Key": "k"}
    wrong = submit.post("/v1/jobs", json={"list": "nowhere", "uuid": "u1"}, headers=key)
    right = submit.post("/v1/jobs", json={"list": "calls", "uuid": "u1"}, headers=key)
    assert (wrong.status_code, right.status_code) == (404, 202)


def test_a_key_whose_job_has_expired_does_nothing_again(submit: httpx.Client, queue: Queue) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"list": "calls", "uuid": "u1"}
    job = submit.post("/v1/jobs", json=body, headers=key).json()
    queue.client.delete(f"conserver:job:{job['id']}")
    assert submit.post("/v1/jobs", json=body, headers=key).status_code == 410
    assert len(queue.waiting("calls")) == 1


def test_many_at_once_under_one_key_are_one_job(
    api: Api, queue: Queue, submit: httpx.Client
) -> None:
    statuses: list[int] = []

    def send() -> None:
        with api.client("submit") as client:
            body = {"list": "calls", "url": "https://example.com/a.wav"}
            answer = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
            statuses.append(answer.status_code)

    threads = [threading.Thread(target=send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 9 + [202]
    assert len(queue.waiting("calls")) == 1


# ---- following ----


def test_a_job_tells_its_way_to_its_end(
    submit: httpx.Client, worker: Consumer, queue: Queue
) -> None:
    path = submitted(submit)["links"]["self"]
    item = worker.one()
    shown = submit.get(path)
    assert shown.json()["status"] == "processing"
    assert shown.headers["retry-after"] == "2"
    worker.settle(item)
    shown = submit.get(path)
    assert shown.json()["status"] == "completed"
    assert "retry-after" not in shown.headers
    assert shown.json()["elapsed_time"] == submit.get(path).json()["elapsed_time"]


def test_a_failed_job_says_why_without_secrets(submit: httpx.Client, worker: Consumer) -> None:
    path = submitted(submit)["links"]["self"]
    worker.dead_letter(worker.one(), why="failed")
    job = submit.get(path).json()
    assert (job["status"], job["error"]["reason"]) == ("failed", "failed")


def test_an_etag_saves_the_body(submit: httpx.Client, worker: Consumer) -> None:
    path = submitted(submit)["links"]["self"]
    tag = submit.get(path).headers["etag"]
    for header in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = submit.get(path, headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
    worker.one()
    assert submit.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_waiting_answers_at_the_end(submit: httpx.Client, worker: Consumer, api: Api) -> None:
    path = submitted(submit)["links"]["self"]
    found: list[httpx.Response] = []

    def wait() -> None:
        with api.client(
            "submit",
        ) as client:
            found.append(client.get(path, params={"wait": 30}))

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: len(api.context.subscriptions) == 1)
    worker.settle(worker.one())
    thread.join(60)
    assert found[0].json()["status"] == "completed"
    eventually(lambda: len(api.context.subscriptions) == 0)


def test_waiting_answers_at_its_time(submit: httpx.Client) -> None:
    path = submitted(submit)["links"]["self"]
    began_s = time.monotonic()
    answer = submit.get(path, params={"wait": 0.2})
    assert answer.json()["status"] == "queued"
    assert time.monotonic() - began_s >= 0.2


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "x"])
def test_how_long_may_be_waited(submit: httpx.Client, wait: str) -> None:
    path = submitted(submit)["links"]["self"]
    assert submit.get(path, params={"wait": wait}).status_code == 422


def test_who_sees_a_job(clients: Clients) -> None:
    path = submitted(clients("submit"))["links"]["self"]
    seen = {
        role: clients(role).get(path).status_code
        for role in ("submit", "other", "read", "operate", "admin", "narrow")
    }
    assert seen == {
        "submit": 200,
        "other": 404,
        "read": 200,
        "operate": 200,
        "admin": 200,
        "narrow": 404,
    }


@pytest.mark.parametrize("job", ["nothing", "a%00b", "..%2f..", "a" * 65, "%F0%9F%92%A9"])
def test_no_such_job(clients: Clients, job: str) -> None:
    assert clients("read").get(f"/v1/jobs/{job}").status_code == 404


# ---- listing ----


def test_jobs_are_listed_newest_first_in_pages(submit: httpx.Client, queue: Queue) -> None:
    made = [submitted(submit, job=f"j{n}")["id"] for n in range(7)]
    for number, job in enumerate(made):  # They may be of one millisecond.
        queue.client.zadd("conserver:jobs", {job: 1000 + number})
    seen: list[str] = []
    cursor = ""
    for _ in range(4):
        page = submit.get("/v1/jobs", params={"limit": 2, "cursor": cursor}).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next"] or ""
        if not cursor:
            break
    assert seen == made[::-1]


def test_jobs_that_arrive_meanwhile_repeat_none_in_the_next_page(submit: httpx.Client) -> None:
    made = [submitted(submit, job=f"j{n}")["id"] for n in range(4)]
    first = submit.get("/v1/jobs", params={"limit": 2}).json()
    for number in range(3):
        submitted(submit, job=f"later{number}")
    second = submit.get("/v1/jobs", params={"limit": 2, "cursor": first["next"]}).json()
    ids = [job["id"] for page in (first, second) for job in page["jobs"]]
    assert sorted(ids) == sorted(made)
    nothing = submit.get("/v1/jobs", params={"cursor": "no-such-job"}).json()
    assert nothing == {"jobs": [], "next": None}


def test_jobs_are_filtered(submit: httpx.Client, clients: Clients, worker: Consumer) -> None:
    first, second = submitted(submit), submitted(submit)
    worker.settle(worker.one())
    read = clients("read")

    def ids(**query: str) -> list[str]:
        return [job["id"] for job in read.get("/v1/jobs", params=query).json()["jobs"]]

    assert ids(status="completed") == [first["id"]]
    assert ids(status="queued") == [second["id"]]
    assert ids(list="other") == []
    assert clients("other").get("/v1/jobs").json()["jobs"] == []
    assert clients("narrow").get("/v1/jobs").json()["jobs"] == []
    assert clients("narrow").get("/v1/jobs", params={"list": "calls"}).status_code == 403
    unknown = read.get("/v1/jobs", params={"list": "call"})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "list-unknown")
    assert unknown.json()["detail"] == "there is no list call (did you mean `calls`?)"


def test_an_empty_page_of_jobs_is_not_an_unknown_list(submit: httpx.Client, queue: Queue) -> None:
    """A list that is known by its jobs only, and so many jobs that a page can read none of it."""
    job = submitted(submit)["id"]
    queue.client.hset(keys.job(job), "list", "gone")
    first = submit.get("/v1/jobs", params={"list": "gone", "limit": 1}).json()
    assert ([one["id"] for one in first["jobs"]], bool(first["next"])) == ([job], True)
    last = submit.get("/v1/jobs", params={"list": "gone", "limit": 1, "cursor": first["next"]})
    assert (last.status_code, last.json()) == (200, {"jobs": [], "next": None})
    failed = submit.get("/v1/jobs", params={"list": "gone", "status": "failed"})
    assert (failed.status_code, failed.json()) == (200, {"jobs": [], "next": None})
    unknown = submit.get("/v1/jobs", params={"list": "gome", "status": "failed"})
    assert unknown.status_code == 404
    later_ms = time.time() * 1000 + 60_000
    expired = {f"expired{number}": later_ms for number in range(LOOKED_AT_MAX)}
    queue.client.zadd(keys.JOBS, expired)
    first = submit.get("/v1/jobs", params={"list": "gone"}).json()
    assert (first["jobs"], bool(first["next"])) == ([], True)
    rest = submit.get("/v1/jobs", params={"list": "gone", "cursor": first["next"]}).json()
    assert [one["id"] for one in rest["jobs"]] == [job]


@pytest.mark.parametrize(
    "query",
    [{"cursor": "²"}, {"cursor": "a b"}, {"cursor": "9" * 65}, {"status": "x"}, {"limit": 0}],
)
def test_lists_of_jobs_are_asked_for_properly(submit: httpx.Client, query: dict[str, str]) -> None:
    assert submit.get("/v1/jobs", params=query).status_code == 422


# ---- cancelling ----


def test_a_waiting_job_is_cancelled(submit: httpx.Client, queue: Queue, worker: Consumer) -> None:
    path = submitted(submit)["links"]["self"]
    answer = submit.delete(path)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert queue.waiting("calls") == []
    assert submit.delete(path).status_code == 409


def test_the_document_of_a_cancelled_job_does_not_stay_for_ever(
    submit: httpx.Client, queue: Queue
) -> None:
    only, twice = submitted(submit), submitted(submit)
    queue.push("other", twice["uuid"])
    for job in (only, twice):
        assert submit.delete(f"/v1/jobs/{job['id']}").status_code == 202
    assert 172_000 < queue.client.ttl(f"vcon:{only['uuid']}") <= 172_800
    assert queue.client.ttl(f"vcon:{twice['uuid']}") == -1, "another list names it"


def test_who_cancels(clients: Clients, worker: Consumer) -> None:
    paths = [submitted(clients("submit"))["links"]["self"] for _ in range(4)]
    assert clients("other").delete(paths[0]).status_code == 404
    assert clients("read").delete(paths[0]).status_code == 403
    assert clients("narrow").delete(paths[0]).status_code == 404
    assert clients("operate").delete(paths[0]).status_code == 202
    assert clients("admin").delete(paths[1]).status_code == 202
