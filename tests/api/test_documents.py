"""/v1/documents: what is taken as a document, where it goes, and how its text comes back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from benchmark import papers

from tests.api.conftest import Api
from tests.queues import Consumer, Queue

Clients = Callable[[str], httpx.Client]

PDF = papers.pdf()


def stored(queue: Queue, uuid: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(queue.client.get(f"vcon:{uuid}"))
    return found


def test_a_form_becomes_a_vcon_with_the_document(submit: httpx.Client, queue: Queue) -> None:
    form = {"meta": '{"case": 417}'}
    answer = submit.post("/v1/documents", data=form, files={"file": ("contract.pdf", PDF)})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["list"] == "papers"
    made = stored(queue, job["uuid"])
    document, meta = made["attachments"]
    assert (document["purpose"], document["filename"]) == ("document", "contract.pdf")
    assert document["encoding"] == "base64url"
    assert "dialog" not in made
    assert "dialog" not in meta
    assert json.loads(meta["body"]) == {"case": 417}


def test_a_large_document_stays_an_upload(
    serve: Callable[..., Api], queue: Queue, redis_url: str
) -> None:
    api = serve(CONSERVER_INLINE_BYTES="100")
    with api.client("submit") as client:
        job = client.post("/v1/documents", files={"file": ("a.pdf", PDF)}).json()
    [document] = stored(queue, job["uuid"])["attachments"]
    assert document["url"].startswith("upload:")
    assert document["content_hash"].startswith("sha512-")
    assert [path.suffix for path in sorted(api.context.uploads.folder.iterdir())] == ["", ".json"]


def test_an_address_and_an_upload_are_taken(submit: httpx.Client, queue: Queue) -> None:
    url = "https://example.com/papers/Fax%201.tif?sig=x"
    job = submit.post("/v1/documents", json={"url": url}).json()
    [document] = stored(queue, job["uuid"])["attachments"]
    assert (document["url"], document["filename"]) == (url, "Fax%201.tif")
    given = {"url": "https://example.com/get?id=1", "mediatype": "image/tiff", "job_id": "mine"}
    job = submit.post("/v1/documents", json=given).json()
    assert (job["id"], job["list"]) == ("mine", "papers")
    [document] = stored(queue, job["uuid"])["attachments"]
    assert document["mediatype"] == "image/tiff"


def test_a_document_on_v1_jobs_is_no_recording(submit: httpx.Client, queue: Queue) -> None:
    files = {"file": ("a.pdf", PDF, "application/pdf")}
    job = submit.post("/v1/jobs", data={"list": "calls"}, files=files).json()
    [document] = stored(queue, job["uuid"])["attachments"]
    assert document["mediatype"] == "application/pdf"


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"url": "https://example.com/call.wav"}, 415, "no-document"),
        ({"url": "https://example.com/x", "mediatype": "audio/wav"}, 415, "no-document"),
        ({"url": "ftp://example.com/a.pdf"}, 422, "invalid"),
        ({}, 422, "one-source"),
        ({"uuid": "u1"}, 422, "one-source"),
        ({"upload": "0" * 32}, 404, "upload-unknown"),
        ({"url": "https://example.com/a.pdf", "list": "nowhere"}, 404, "list-unknown"),
    ],
)
def test_what_is_refused(
    submit: httpx.Client, queue: Queue, body: dict[str, Any], status: int, kind: str
) -> None:
    answer = submit.post("/v1/documents", json=body)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, kind)
    assert not queue.waiting("papers")


def test_a_file_that_is_no_document_is_not_kept(submit: httpx.Client, api: Api) -> None:
    answer = submit.post("/v1/documents", files={"file": ("call.wav", b"RIFF", "audio/wav")})
    assert answer.status_code == 415
    assert not api.context.uploads.folder.exists()


def test_without_a_chain_that_reads_documents_there_is_nothing_to_hand_them_to(
    clients: Clients,
) -> None:
    answer = clients("narrow").post("/v1/documents", json={"url": "https://example.com/a.pdf"})
    assert answer.status_code == 404
    assert "reads documents" in answer.json()["detail"]


def test_the_text_of_documents_is_the_result_of_a_job(
    submit: httpx.Client, clients: Clients, queue: Queue
) -> None:
    pages = [{"page": 1, "text": "one", "source": "ocr", "confidence": 0.9, "language": "en"}]
    analysis = {"type": "document_text", "attachment": 0, "vendor": "conserver", "body": {}}
    analysis["body"] = {"pages": [*pages, {"page": 2, "text": "two"}]}
    job = submit.post("/v1/documents", files={"file": ("a.pdf", PDF)}).json()
    document = stored(queue, job["uuid"]) | {"analysis": [analysis]}
    queue.client.set(f"vcon:{job['uuid']}", json.dumps(document))
    worker = Consumer(queue, lists=("papers",))
    [item] = worker.claim().items
    worker.settle(item)
    result = f"/v1/jobs/{job['id']}/result"
    found = submit.get(result).json()
    assert found["text"] == "one\n\ntwo"
    [read] = found["documents"]
    assert read["attachment"] == 0
    assert [page["number"] for page in read["pages"]] == [1, 2]
    assert submit.get(result, params={"format": "text"}).text == "one\n\ntwo\n"
    assert submit.get(result, params={"format": "srt"}).status_code == 404


def test_how_busy_the_workers_are(clients: Clients, submit: httpx.Client, queue: Queue) -> None:
    for _ in range(3):
        submit.post("/v1/documents", json={"url": "https://example.com/a.pdf"})
    Consumer(queue, lists=("papers",)).claim(1)
    found = clients("read").get("/v1/workers").json()
    assert (found["queue_size"], found["active_tasks"]) == (2, 1)
    assert (found["num_workers"], found["workers"], found["page_readers"]) == (0, [], 0)
    assert submit.get("/v1/workers").status_code == 403


def test_documents_are_taken_at_once_from_many(submit: httpx.Client, queue: Queue) -> None:
    """They wait in the queue, and nobody waits for them."""
    files = {"file": ("a.pdf", PDF)}
    took_s: list[float] = []

    def one() -> None:
        began_s = time.monotonic()
        assert submit.post("/v1/documents", files=files).status_code == 202
        took_s.append(time.monotonic() - began_s)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took_s) == len(queue.waiting("papers")) == 8
