"""/v1/jobs/{id}/result: the transcript of a job's vCon in the form that the caller wants."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.conftest import submitted
from tests.queues import Consumer, Queue

WTF = {
    "transcript": {"text": "Hello. Goodbye <you>.", "language": "en", "duration": 3.5},
    "segments": [
        {"id": 0, "start": 0.0, "end": 1.25, "text": "Hello.", "speaker": 0},
        {"id": 1, "start": 2.0, "end": 3.5, "text": "Goodbye <you>.", "speaker": 1},
    ],
    "words": [{"id": 0, "start": 0.0, "end": 1.25, "text": "Hello."}],
    "speakers": {"0": {"label": "Ann"}, "1": {"label": "Ben"}},
}


def ended(submit: httpx.Client, worker: Consumer, queue: Queue, **members: Any) -> str:
    """The path of the result of a job whose vCon has these members at its end."""
    job = submitted(submit)
    worker.settle(worker.one())
    document = json.loads(queue.client.get(f"vcon:{job['uuid']}")) | members
    queue.store(job["uuid"], json.dumps(document).encode())
    return str(job["links"]["result"])


@pytest.fixture
def result(submit: httpx.Client, worker: Consumer, queue: Queue) -> str:
    """The result of a job with a transcript."""
    analysis = {"type": "wtf_transcription", "dialog": 0, "encoding": "json", "body": WTF}
    return ended(submit, worker, queue, analysis=[analysis])


def test_formats(submit: httpx.Client, result: str) -> None:
    def get(name: str) -> str:
        answer = submit.get(result, params={"format": name})
        assert answer.status_code == 200, answer.text
        return answer.text

    usage = {"type": "duration", "seconds": 4}
    assert json.loads(get("json")) == {"text": "Hello. Goodbye <you>.", "usage": usage}
    assert get("text") == "Ann: Hello.\nBen: Goodbye <you>.\n"
    assert get("srt") == (
        "1\n00:00:00,000 --> 00:00:01,250\nAnn: Hello.\n\n"
        "2\n00:00:02,000 --> 00:00:03,500\nBen: Goodbye <you>.\n"
    )
    assert get("vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\n<v Ann>Hello.\n\n"
        "00:00:02.000 --> 00:00:03.500\n<v Ben>Goodbye &lt;you&gt;.\n"
    )
    verbose = json.loads(get("verbose_json"))
    assert (verbose["language"], verbose["duration"]) == ("en", 3.5)
    assert [one["speaker"] for one in verbose["segments"]] == ["Ann", "Ben"]
    assert verbose["words"] == [{"word": "Hello.", "start": 0.0, "end": 1.25}]
    assert json.loads(get("vcon"))["analysis"][0]["body"] == WTF
    assert submit.get(result, params={"format": "pdf"}).status_code == 422


def test_an_etag(submit: httpx.Client, result: str) -> None:
    tag = submit.get(result).headers["etag"]
    assert submit.get(result, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    ("analysis", "wanted", "status"),
    [
        ([], "json", 404),
        ([], "vcon", 200),
        ([None, 7, {"type": "transcript"}], "json", 404),
        ([{"type": "transcript", "body": "Hello."}], "text", 200),
        ([{"type": "transcript", "body": "Hello."}], "srt", 404),
        ([{"type": "transcript", "body": {"segments": [None, {"start": "x"}]}}], "srt", 200),
        ({"no": "list"}, "json", 404),
    ],
)
def test_transcripts_of_all_kinds(
    submit: httpx.Client,
    worker: Consumer,
    queue: Queue,
    analysis: Any,
    wanted: str,
    status: int,
) -> None:
    path = ended(submit, worker, queue, analysis=analysis)
    assert submit.get(path, params={"format": wanted}).status_code == status


def test_there_is_no_result_before_the_end(submit: httpx.Client, worker: Consumer) -> None:
    path = submitted(submit)["links"]["result"]
    assert submit.get(path).status_code == 409
    worker.dead_letter(worker.one())
    answer = submit.get(path)
    assert (answer.status_code, answer.json()["state"]) == (409, "failed")


def test_a_vcon_that_is_gone(submit: httpx.Client, queue: Queue, result: str) -> None:
    for key in queue.client.scan_iter("vcon:*"):
        queue.client.delete(key)
    assert submit.get(result).status_code == 404
