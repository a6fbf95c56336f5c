"""Forms with recordings: what is refused before the recording is read, and who spoke in it."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import WAIT_S, Api
from tests.api.hearing import TEXT, WTF, Worker, hearing
from tests.helpers import eventually
from tests.queues import Queue

SOUND = b"RIFF" + bytes(range(256)) * 16
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


def field(name: str, value: str) -> bytes:
    """A part of a form."""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


@contextmanager
def sending(api: Api, route: str, body: bytes) -> Iterator[socket.socket]:
    """A form of 10 MB of which only its beginning has come."""
    head = (
        f"POST {route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer text-submit\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000000\r\n\r\n"
    )
    with socket.create_connection((api.host, api.port), timeout=WAIT_S) as wire:
        wire.sendall(head.encode() + body)
        yield wire


def kept(api: Api) -> list[str]:
    """The names of what is in the folder of uploads."""
    folder = api.context.uploads.folder
    return [path.name for path in folder.iterdir()] if folder.exists() else []


@pytest.mark.parametrize(
    ("route", "name", "value", "status"),
    [
        ("/v1/audio/transcriptions", "model", "chain/nowhere", 404),
        ("/v1/audio/transcriptions", "response_format", "yaml", 400),
        ("/v1/audio/translations", "response_format", "diarized_json", 400),
        ("/v1/jobs", "list", "nowhere", 404),
        ("/v1/jobs", "list", "other", 404),
    ],
)
def test_what_stands_before_the_recording_is_refused_before_it_has_come(
    serve: Callable[..., Api], route: str, name: str, value: str, status: int
) -> None:
    api = serve(config={"chains": {"second": {"links": ["tag"], "ingress_lists": ["another"]}}})
    body = field(name, value) + b"--x\r\n" + FILE + SOUND
    with sending(api, route, body) as wire:
        assert wire.recv(65_536).startswith(f"HTTP/1.1 {status} ".encode())
    assert kept(api) == []


def test_what_comes_after_the_recording_is_refused_before_there_is_a_job(
    api: Api, submit: httpx.Client, queue: Queue
) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b"--x\r\n" + FILE + SOUND + b"\r\n" + field("model", "chain/nowhere") + b"--x--\r\n"
    answer = submit.post("/v1/audio/transcriptions", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")
    assert kept(api) == []
    assert queue.client.zcard("conserver:jobs") == 0


def test_one_that_is_right_so_far_goes_on(api: Api) -> None:
    body = field("model", "whisper-1") + b"--x\r\n" + FILE + bytes(1 << 20)
    with sending(api, "/v1/audio/transcriptions", body):
        eventually(lambda: kept(api))
    eventually(lambda: not kept(api))


def test_openais_client_hears_of_a_wrong_model_also_with_a_long_recording(api: Api) -> None:
    long = ("long.wav", bytes(8 << 20))
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="text-submit", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.audio.transcriptions.create(model="chain/nowhere", file=long)
        assert client.models.list().data, "the connection goes on"
    assert kept(api) == []


def test_the_form_of_litellm(submit: httpx.Client, redis_url: str, queue: Queue) -> None:
    """As LiteLLM 1.110 sends `transcription(model="openai/whisper-1", ...)`, byte for byte."""
    boundary = "2b25564c7428b747e44ca1f04a74bc16"
    fields = [
        ("model", "whisper-1"),
        ("language", "en"),
        ("prompt", "names"),
        ("response_format", "verbose_json"),
        ("temperature", "0.2"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    ]
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    file = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    parts.append(f"--{boundary}\r\n{file}Content-Type: audio/x-wav\r\n\r\n")
    body = "".join(parts).encode() + SOUND + f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Accept": "application/json",
        "User-Agent": "OpenAI/Python 3.57.0",
        "x-stainless-raw-response": "true",
        "x-stainless-retry-count": "0",
    }
    with hearing(redis_url, "calls") as worker:
        answer = submit.post("/v1/audio/transcriptions", content=body, headers=headers).json()
    assert (answer["text"], len(answer["segments"]), len(answer["words"])) == (TEXT, 2, 3)
    (wishes,) = (one["body"] for one in worker.taken[0]["attachments"])
    assert json.loads(wishes) == {
        "language": "en", "prompt": "names", "temperature": [0.2], "words": True,
    }  # fmt: skip


# ---- diarized_json ----


@pytest.fixture
def conversation(redis_url: str, queue: Queue) -> Iterator[Worker]:
    """Who hears two speakers, of whom one has a name, in what arrives."""
    spoken: dict[str, Any] = copy.deepcopy(WTF)
    spoken["speakers"] = {"0": {"id": 0, "label": "Ada"}}
    spoken["segments"][0]["speaker"] = 0

    def hear(worker: Worker, item: Any) -> None:
        worker.settle(item, {"type": "wtf_transcription", "encoding": "json", "body": spoken})

    with hearing(redis_url, "calls", work=hear) as found:
        yield found


@pytest.mark.usefixtures("conversation")
def test_who_said_what_by_openais_client(api: Api) -> None:
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="text-submit", max_retries=0) as client:
        asked: dict[str, Any] = {"model": "whisper-1", "response_format": "diarized_json"}
        found: Any = client.audio.transcriptions.create(file=("a.wav", SOUND), **asked)
        events = list(client.audio.transcriptions.create(file=("b", SOUND), stream=True, **asked))
    assert (found.task, found.duration, found.text) == ("transcribe", 3.5, "Hello. Goodbye <you>.")
    assert [(one.speaker, one.text, one.start, one.end) for one in found.segments] == [
        ("Ada", "Hello.", 0.0, 1.25),
        ("A", "Goodbye <you>.", 2.0, 3.5),
    ]
    assert [one.id for one in found.segments] == ["seg_000", "seg_001"]
    assert found.usage.seconds == 4
    kinds = [event.type.removeprefix("transcript.text.") for event in events]
    assert kinds == ["delta", "segment", "segment", "done"]
    assert [event.speaker for event in events[1:3]] == ["Ada", "A"]


@pytest.mark.usefixtures("conversation")
def test_who_said_what_as_the_result_of_a_job(submit: httpx.Client) -> None:
    form = {"file": ("a.wav", SOUND)}
    job = submit.post("/v1/jobs", data={"list": "calls"}, files=form).json()
    assert submit.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()["status"] == "completed"
    result = submit.get(f"/v1/jobs/{job['id']}/result", params={"format": "diarized_json"})
    assert [one["speaker"] for one in json.loads(result.text)["segments"]] == ["Ada", "A"]
