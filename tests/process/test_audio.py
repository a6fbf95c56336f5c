"""Conserver as a transcription server: a true model, OpenAI's own client, curl."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import redis

from conserver.testing.http_server import Reply, serving
from tests.clients import http_client, redis_flush
from tests.conftest import absent
from tests.daemon import Daemon
from tests.helpers import eventually, free_port
from tests.pages import ROOT, Shell, Step, blocks, steps
from tests.unit.media.speech.real import DATA, HEARING, channels_of
from tests.unit.media.transcription.sounds import wav

CALLS = DATA / "calls"
TEXT = "yes please call seven two four"
CONFIG: dict[str, Any] = {
    "links": {
        "hear": {"module": "links.transcribe", "options": HEARING},
        "mark": {"module": "links.tag", "options": {"tags": ["heard"]}},
    },
    "chains": {
        "calls": {"links": ["hear"], "ingress_lists": ["calls"]},
        "marked": {"links": ["hear", "mark"], "ingress_lists": ["marked"]},
    },
}
RATE_HZ = 16_000


class Server:
    """A daemon with the API, for all tests of this file: none may empty its Redis."""

    def __init__(self, daemon: Daemon, url: str) -> None:
        self.daemon, self.url = daemon, url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis_session_url: str) -> Iterator[Server]:
    redis_flush(redis_session_url)
    port = free_port()
    environment = {
        "CONSERVER_API_PORT": str(port), "CONSERVER_INLINE_BYTES": "100000",
        "CONSERVER_CALLBACK_PRIVATE_ADDRESSES": "true", "MAX_CONCURRENT_REQUESTS": "2",
        "UPLOAD_TIMEOUT_SECONDS": "90",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("audio")
    with Daemon(folder, redis_session_url, CONFIG, workers=2, **environment) as daemon:
        daemon.event("api_listens", 60)
        yield Server(daemon, f"http://127.0.0.1:{port}")


@pytest.fixture
def web(server: Server) -> Iterator[httpx.Client]:
    with http_client(server.url, timeout=60) as found:
        yield found


@pytest.fixture
def ai(server: Server) -> Iterator[openai.OpenAI]:
    """OpenAI's client: another address, nothing else."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=60) as found:
        yield found


def recording(name: str) -> tuple[str, bytes]:
    return name, (CALLS / name).read_bytes()


LENGTHS = (100, 200, 400, 800)
"""For `long_call`, tried in turn: a fast machine has heard a short one within a second."""


def long_call(times: int) -> tuple[str, bytes]:
    """The same words every five seconds."""
    sound = channels_of("calls/mono-8k.wav")[0]
    pause = np.zeros(5 * RATE_HZ - len(sound), np.int16)
    return "long.wav", wav(np.concatenate([sound, pause] * times), rate_hz=RATE_HZ)


def test_every_format_of_a_true_call(ai: openai.OpenAI) -> None:
    def heard(form: str, **options: Any) -> Any:
        return ai.audio.transcriptions.create(
            model="whisper-1",
            file=recording("mono-8k.wav"),
            response_format=form,  # type: ignore[call-overload]
            **options,
        )

    assert heard("json").text == TEXT
    assert heard("text") == f"{TEXT}\n"
    srt, vtt = heard("srt"), heard("vtt")
    assert srt.startswith("1\n00:00:00,")
    assert srt.endswith(f"{TEXT}\n")
    assert vtt.startswith("WEBVTT\n\n00:00:00.")
    verbose = heard("verbose_json", timestamp_granularities=["word", "segment"])
    assert (verbose.text, verbose.language, verbose.task) == (TEXT, "en", "transcribe")
    assert [word.word for word in verbose.words] == TEXT.split()
    assert -1 < verbose.segments[0].avg_logprob < 0
    assert verbose.duration == pytest.approx(2.97, abs=0.01)


def test_what_is_asked_for_reaches_the_model(ai: openai.OpenAI, web: httpx.Client) -> None:
    raw = ai.audio.transcriptions.with_raw_response.create(
        model="chain/marked",
        file=recording("mono-16k.wav"),
        language="en",
        prompt="thank you",
        temperature=0.2,
    )
    assert raw.parse().text == "thank you customer goodbye"
    job = raw.headers["x-conserver-job"]
    document = web.get(f"/v1/jobs/{job}/result", params={"format": "vcon"}).json()
    wtf = next(one for one in document["analysis"] if one["type"] == "wtf_transcription")
    body = wtf["body"] if isinstance(wtf["body"], dict) else json.loads(wtf["body"])
    options = body["metadata"]["options"]
    assert options["prompt"] == "thank you"
    assert (options["language"], options["temperature"]) == ("en", [0.2])
    assert any(one.get("purpose") == "tags" for one in document["attachments"])


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_translation_is_one(ai: openai.OpenAI) -> None:
    found = ai.audio.translations.create(
        model="whisper-1", file=recording("mono-8k.wav"), response_format="verbose_json"
    )
    assert (found.language, (found.model_extra or {})["task"]) == ("english", "translate")


def test_a_call_on_two_channels(ai: openai.OpenAI) -> None:
    found = ai.audio.transcriptions.create(
        model="whisper-1", file=recording("stereo.wav"), response_format="verbose_json"
    )
    assert found.text.startswith("hello customer hello agent please help")
    speakers = [(one.model_extra or {}).get("speaker") for one in found.segments or []]
    assert speakers[:2] == ["Channel 0", "Channel 1"]


def test_words_of_a_long_call_come_while_it_is_heard(ai: openai.OpenAI) -> None:
    def deltas_of(times: int) -> list[str]:
        call = long_call(times)
        stream = ai.audio.transcriptions.create(model="whisper-1", file=call, stream=True)
        events = list(stream)
        deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
        assert events[-1].type == "transcript.text.done"
        assert "".join(deltas) == events[-1].text == " ".join([TEXT] * times)
        return deltas

    # The text so far is told once a second: a call that is heard in one has a single piece.
    assert any(len(deltas_of(times)) > 1 for times in LENGTHS)


def test_what_is_no_recording_is_a_bad_request(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot be decoded") as refused:
        ai.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF....nothing"))
    assert (refused.value.code, refused.value.param) == ("invalid_audio", "file")


def test_models_are_chains(ai: openai.OpenAI) -> None:
    assert [one.id for one in ai.models.list()] == ["chain/calls", "chain/marked", "whisper-1"]
    assert ai.models.retrieve("chain/marked").id == "chain/marked"


def test_a_job_is_followed_in_words(web: httpx.Client) -> None:
    assert any(words_of_a_job(web, times) for times in LENGTHS)


def words_of_a_job(web: httpx.Client, times: int) -> list[str]:
    """How a job on a call of that length is told to go on, from one second to the next."""
    name, content = long_call(times)
    job = web.post(
        "/v1/audio/transcriptions",
        data={"model": "whisper-1"},
        files={"file": (name, content)},
        headers={"Prefer": "respond-async"},
    ).json()
    assert (job["status"], job["progress_text"]) == ("queued", "queued")
    seen = set()

    def over() -> bool:
        now = web.get(f"/v1/jobs/{job['job_id']}").json()
        seen.add((now["status"], now["progress_text"]))
        return bool(now["status"] == "completed")

    eventually(over, 240)
    words = [text for status, text in seen if status == "processing" and " of " in text]
    assert all(re.fullmatch(r"transcribing, \d+ of \d+ s", text) for text in words)
    end = web.get(f"/v1/jobs/{job['job_id']}").json()
    assert end["elapsed_time"] > 0
    assert end["start_time"].endswith("Z")
    return words


@contextmanager
def nothing_is_heard(daemon: Daemon) -> Iterator[None]:
    """Whoever wants something to be heard meanwhile waits."""
    (pid,) = daemon.until(lambda: daemon.pids("transcriber"))
    daemon.signal(signal.SIGSTOP, pid)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            daemon.signal(signal.SIGCONT, pid)


def test_ten_at_once_wait_for_their_slots_and_health_shows_it(web: httpx.Client) -> None:
    def submit(number: int, times: int) -> str:
        answer = web.post(
            "/v1/audio/transcriptions",
            data={"model": "whisper-1", "prompt": f"number {number}"},
            files={"file": long_call(times)},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status_code == 202
        return str(answer.json()["id"])

    def completed(job: str) -> bool:
        return bool(web.get(f"/v1/jobs/{job}").json()["status"] == "completed")

    def now() -> dict[str, Any]:
        found = web.get("/health")
        assert found.status_code == 200
        return dict(found.json()["concurrency"])

    def shown_at_work(times: int) -> bool:
        """Whether health shows how ten such calls use both slots, before they are all heard."""
        with ThreadPoolExecutor(10) as pool:
            jobs = list(pool.map(partial(submit, times=times), range(10)))
        seen: list[bool] = []

        def over() -> bool:
            found = now()
            seen.append(found["busy"] == 2 and found["waiting"] >= 1)
            return all(completed(job) for job in jobs)

        eventually(over, 480)
        return any(seen)

    eventually(lambda: now()["slots"] == 2)
    # Its host tells it every other second: a fast machine has heard short calls by then.
    assert any(shown_at_work(times) for times in (30, 60, 120))
    idle = {"slots": 2, "busy": 0, "waiting": 0}
    eventually(lambda: now() == idle)
    assert web.get("/health").json()["timeouts"] == {
        "upload_timeout_seconds": 90, "connect": 30, "read": 120, "write": 120, "pool": 10,
    }  # fmt: skip


def test_the_result_is_put_where_the_presigned_url_says(web: httpx.Client) -> None:
    with serving(Reply(200)) as store:
        answer = web.post(
            "/v1/audio/transcriptions",
            data={
                "response_format": "verbose_json",
                "upload_presigned_url": f"{store.url}/bucket/result.json?X-Amz-Signature=secret",
            },
            files={"file": recording("mono-8k.wav")},
        )
        job = answer.json()
        assert (answer.status_code, job["status"]) == (202, "queued")
        assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
        eventually(lambda: store.requests, 60)
        (put,) = store.requests
        assert put.method == "PUT"
        assert put.path == "/bucket/result.json?X-Amz-Signature=secret"
        assert (put.json["text"], put.json["task"]) == (TEXT, "transcribe")
        now = web.get(f"/v1/jobs/{job['id']}")
        assert now.json()["status"] == "completed"
        assert "secret" not in now.text


def test_curl_with_a_recording(server: Server) -> None:
    if shutil.which("curl") is None:
        absent("curl is not installed")
    call = CALLS / "mono-8k.wav"
    answer = subprocess.run(
        ["curl", "-sS", f"{server.url}/v1/audio/transcriptions", "-F", f"file=@{call}",
         "-F", "model=whisper-1", "-F", "response_format=text"],
        capture_output=True, text=True, timeout=110, check=True,
    )  # fmt: skip
    assert answer.stdout == f"{TEXT}\n"


def test_an_api_that_is_killed_costs_a_repetition_and_no_second_job(
    server: Server, ai: openai.OpenAI, redis_session_url: str
) -> None:
    with redis.Redis.from_url(redis_session_url) as client, ThreadPoolExecutor(1) as pool:
        before = client.zcard("conserver:jobs")
        asked = pool.submit(
            ai.with_options(max_retries=5).audio.transcriptions.with_raw_response.create,
            model="whisper-1",
            file=long_call(60),
        )
        with nothing_is_heard(server.daemon):
            eventually(lambda: client.zcard("conserver:jobs") == before + 1)
            (pid,) = server.daemon.until(lambda: server.daemon.pids("api"))
            server.daemon.signal(signal.SIGKILL, pid)
        answer = asked.result(240)
        assert answer.parse().text == " ".join([TEXT] * 60)
        assert answer.retries_taken >= 1
        assert client.zcard("conserver:jobs") == before + 1


def test_the_readme_shows_what_comes_back(server: Server) -> None:
    if shutil.which("curl") is None:
        absent("curl is not installed")
    shell = Shell(ROOT, {"PATH": os.environ["PATH"]})
    shown = [
        step
        for block in blocks(ROOT / "README.md", "console")
        for step in steps(block)
        if "/v1/audio/" in step.command
    ]
    assert len(shown) == 2
    for step in shown:
        command = step.command.replace("curl localhost:8000", f"curl -sS {server.url}")
        shell.run(Step(command, step.output))
