"""OpenAI's routes, by its own client and by raw HTTP; tests/process has them with a true model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import Api
from tests.api.hearing import TEXT, Worker, hearing
from tests.helpers import TcpProxy, eventually
from tests.queues import Queue

SOUND = b"RIFF" + bytes(range(256)) * 16
Ask = Callable[..., httpx.Response]


@pytest.fixture
def worker(redis_url: str, queue: Queue) -> Iterator[Worker]:
    """Who hears what arrives."""
    with hearing(redis_url, "calls", "other") as found:
        yield found


def client_of(api: Api, role: str = "submit", retries: int = 0) -> openai.OpenAI:
    """OpenAI's client, with nothing changed but its address and key."""
    return openai.OpenAI(
        base_url=f"{api.url}/v1", api_key=f"text-{role}", max_retries=retries, timeout=60
    )


@pytest.fixture
def client(api: Api) -> Iterator[openai.OpenAI]:
    with client_of(api) as found:
        yield found


@pytest.fixture
def ask(submit: httpx.Client) -> Ask:
    """A request as anything but a known client might send it."""

    def post(
        route: str = "transcriptions",
        content: bytes | None = SOUND,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> httpx.Response:
        files = {} if content is None else {"file": ("a.wav", content, "audio/wav")}
        data = {name.replace("__", "[]"): value for name, value in fields.items()}
        if not files:
            files = {"none": (None, b"")}  # type: ignore[dict-item]
        return submit.post(f"/v1/audio/{route}", data=data, files=files, headers=headers)

    return post


def wishes(worker: Worker) -> dict[str, Any]:
    """What the last recording was to be transcribed with."""
    found = [
        json.loads(one["body"])
        for one in worker.taken[-1].get("attachments", [])
        if one["purpose"] == "transcription_request"
    ]
    return found[0] if found else {}


# ---- what comes back ----


def test_every_format_by_openais_client(client: openai.OpenAI, worker: Worker) -> None:
    def transcribed(**options: Any) -> Any:
        return client.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", SOUND), **options
        )

    plain = transcribed()
    assert (plain.text, plain.usage.type, plain.usage.seconds) == (TEXT, "duration", 4)
    assert transcribed(response_format="text") == f"{TEXT}\n"
    assert transcribed(response_format="srt").startswith("1\n00:00:00,000 --> 00:00:01,250\nHello.")
    assert transcribed(response_format="vtt").startswith("WEBVTT\n\n00:00:00.000 --> ")
    verbose = transcribed(response_format="verbose_json")
    assert (verbose.text, verbose.language, verbose.duration) == (TEXT, "en", 3.5)
    assert verbose.words is None
    second = verbose.segments[1]
    assert (second.id, second.start, second.end, second.text) == (1, 2.0, 3.5, "Goodbye <you>.")
    scores = (second.avg_logprob, second.compression_ratio, second.no_speech_prob)
    assert scores == (-0.5, 1.25, 0.5)
    assert (second.temperature, second.seek, second.tokens) == (0.4, 0, [])
    words = transcribed(response_format="verbose_json", timestamp_granularities=["word"])
    first = words.words[0]
    assert (first.word, first.start, first.end) == ("Hello.", 0.0, 1.25)
    assert words.segments is None
    both = transcribed(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert (len(both.words), len(both.segments)) == (3, 2)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_translation(client: openai.OpenAI, worker: Worker) -> None:
    made = client.audio.translations.create(model="whisper-1", file=("a.wav", SOUND))
    assert made.text == TEXT
    verbose = client.audio.translations.create(
        model="whisper-1", file=("a.wav", SOUND), response_format="verbose_json", prompt="names"
    )
    assert (verbose.language, verbose.duration, len(verbose.segments or [])) == ("english", 3.5, 2)
    assert wishes(worker) == {"translate": True, "prompt": "names"}


def test_all_of_openais_fields_are_taken(client: openai.OpenAI, worker: Worker) -> None:
    client.audio.transcriptions.create(
        model="whisper-1",
        file=("call.wav", SOUND, "audio/wav"),
        language="pt-BR",
        prompt="Özdemir",
        response_format="verbose_json",
        temperature=0.5,
        timestamp_granularities=["word"],
        include=["logprobs"],
        chunking_strategy={
            "type": "server_vad",
            "threshold": 0.6,
            "silence_duration_ms": 300,
            "prefix_padding_ms": 100,
        },
        known_speaker_names=["ann"],
        extra_body={"keywords": ["codec", "vCon"]},
    )
    assert wishes(worker) == {
        "language": "pt", "prompt": "Özdemir", "temperature": [0.5], "words": True,
        "vad_threshold": 0.6, "vad_pause_ms": 300, "hotwords": "codec, vCon",
    }  # fmt: skip
    dialog = worker.taken[-1]["dialog"][0]
    assert (dialog["filename"], dialog["mediatype"]) == ("call.wav", "audio/wav")


def test_headerless_audio_keeps_its_rate_and_its_channels(
    client: openai.OpenAI, worker: Worker
) -> None:
    kind = "audio/L16;rate=16000;channels=2"
    client.audio.transcriptions.create(model="whisper-1", file=("a", SOUND, kind))
    assert worker.taken[-1]["dialog"][0]["mediatype"] == "audio/l16;rate=16000;channels=2"


def test_a_plain_request_asks_for_nothing_special(client: openai.OpenAI, worker: Worker) -> None:
    client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND), temperature=0)
    assert "attachments" not in worker.taken[-1]


@pytest.mark.parametrize(
    "spelling",
    [
        {"timestamp_granularities__": "word"},
        {"timestamp_granularities": "word"},  # as LiteLLM sends it
        {"timestamp_granularities": ["word", "word"]},
        {"timestamp_granularities": '["word"]'},
        {"timestamp_granularities": "['word']"},
        {"timestamp_granularities[0]": "word"},
    ],
)
def test_every_spelling_of_an_array(ask: Ask, worker: Worker, spelling: dict[str, Any]) -> None:
    body = ask(response_format="verbose_json", **spelling).json()
    assert [one["word"] for one in body["words"]] == ["Hello.", "Goodbye", "<you>."]
    assert "segments" not in body
    assert wishes(worker) == {"words": True}


def test_the_media_types_of_the_formats(ask: Ask, worker: Worker) -> None:
    kinds = {
        form: ask(response_format=form).headers["content-type"]
        for form in ("json", "verbose_json", "text", "srt", "vtt")
    }
    plain = "text/plain; charset=utf-8"
    assert kinds == {
        "json": "application/json", "verbose_json": "application/json", "text": plain,
        "srt": plain, "vtt": "text/vtt; charset=utf-8",
    }  # fmt: skip


def test_a_model_names_the_chain(ask: Ask, worker: Worker, queue: Queue) -> None:
    def list_of(**fields: str) -> str:
        job = ask(**fields).headers["x-conserver-job"]
        return str(queue.client.hget(f"conserver:job:{job}", "list").decode())

    assert list_of(model="team/second") == "other"
    assert list_of(model="whisper-1") == list_of() == "calls"


# ---- models ----


def test_models_by_openais_client(client: openai.OpenAI, api: Api) -> None:
    assert sorted(one.id for one in client.models.list()) == ["team/second", "whisper-1"]
    assert client.models.retrieve("team/second").object == "model"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("chain/third")
    assert refused.value.code == "model_not_found"
    with client_of(api, "narrow") as narrow:
        assert [one.id for one in narrow.models.list()] == ["team/second"]


# ---- jobs ----


@pytest.mark.parametrize("how", ["prefer", "presigned"])
def test_ten_at_once_all_get_their_id_at_once(
    ask: Ask, queue: Queue, how: str, serve: Callable[..., Api]
) -> None:
    url = "https://store.example/a?X-Amz-Signature=secret"
    fields = {"upload_presigned_url": url} if how == "presigned" else {}
    headers = {"Prefer": "wait=1, respond-async"} if how == "prefer" else {}
    ask(headers=headers, **fields)  # Connects.

    def one(number: int) -> tuple[httpx.Response, float]:
        began_s = time.perf_counter()
        answer = ask(content=SOUND + bytes([number]), headers=headers, **fields)
        return answer, time.perf_counter() - began_s

    with ThreadPoolExecutor(10) as pool:
        answers = [answer for answer, _ in pool.map(one, range(10))]
    ids = set()
    for answer in answers:
        body = answer.json()
        assert (answer.status_code, body["status"]) == (202, "queued")
        assert body["id"] == body["job_id"]
        assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
        assert ("preference-applied" in answer.headers) == (how == "prefer")
        assert "secret" not in answer.text
        ids.add(body["id"])
    assert len(ids) == 10
    assert len(queue.waiting("calls")) == 11


def test_no_key_is_taken_for_a_request_without_one(
    ask: Ask, submit: httpx.Client, queue: Queue
) -> None:
    made = ask(headers={"Prefer": "respond-async"}).json()["id"]
    source = queue.client.hget(f"conserver:job:{made}", "source").decode()
    job = {"list": "calls", "url": "https://example.com/a.wav"}
    for key in (f"repeat {source}", source):
        answer = submit.post("/v1/jobs", json=job, headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.text


def test_a_client_that_goes_away_loses_nothing_and_finds_its_job_again(
    api: Api, queue: Queue, redis_url: str
) -> None:
    with client_of(api) as impatient, pytest.raises(openai.APITimeoutError):
        impatient.with_options(timeout=1).audio.transcriptions.create(
            model="whisper-1", file=("a.wav", SOUND)
        )
    eventually(lambda: len(queue.waiting("calls")) == 1)
    # The same client repeats by itself what was not answered in time, and gets the same job.
    never = threading.Event()

    def late(worker: Worker, item: Any) -> None:
        never.wait(2)
        worker.hear(item)

    with client_of(api, retries=20) as client, hearing(redis_url, work=late):
        again = client.with_options(timeout=1.5).audio.transcriptions.with_raw_response.create(
            model="whisper-1", file=("b.wav", SOUND + b"b")
        )
    assert again.parse().text == TEXT
    assert again.retries_taken >= 1
    jobs = queue.client.zcard("conserver:jobs")
    assert jobs == 2  # one that was left, one that was asked for again and again


def test_a_lost_answer_of_redis_makes_no_second_job(
    serve: Callable[..., Api], redis_url: str, queue: Queue
) -> None:
    with TcpProxy(int(redis_url.rpartition(":")[2].partition("/")[0])) as proxy:
        api = serve(url=proxy.url(redis_url))
        with client_of(api, retries=2) as client, hearing(redis_url):
            client.models.list()  # Connects.
            proxy.cut_after(b"audio/wav")
            raw = client.audio.transcriptions.with_raw_response.create(
                model="whisper-1", file=("a.wav", SOUND, "audio/wav")
            )
    assert (raw.parse().text, raw.retries_taken, proxy.cuts_done) == (TEXT, 1, 1)
    assert queue.client.zcard("conserver:jobs") == 1


def test_an_idempotency_key(ask: Ask, worker: Worker, queue: Queue) -> None:
    key = {"Idempotency-Key": '"k1"'}
    first, second = ask(headers=key), ask(headers=key)
    assert first.headers["x-conserver-job"] == second.headers["x-conserver-job"]
    other = ask(content=b"another", headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_conflict")
    assert queue.client.zcard("conserver:jobs") == 1


def test_the_process_that_stops_says_so_and_the_job_goes_on(
    api: Api, ask: Ask, queue: Queue
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        eventually(lambda: len(api.context.subscriptions) == 1)
        api.begin_stop()
        answer = asked.result()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    job = answer.headers["x-conserver-job"]
    assert job in answer.json()["error"]["message"]
    assert queue.waiting("calls")[0].endswith(job.encode())


# ---- streams ----


def test_a_stream_by_openais_client_has_words_before_the_end(
    client: openai.OpenAI, worker: Worker
) -> None:
    go_on = threading.Event()

    def slowly(worker: Worker, item: Any) -> None:
        worker.show(item, {"done": 1, "total": 3, "unit": "s", "text": "Hello."})
        assert go_on.wait(60)
        worker.hear(item)

    worker.work = slowly
    stream = client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", SOUND), stream=True
    )
    events: list[Any] = []
    for event in stream:
        events.append(event)
        go_on.set()
    assert [event.type for event in events] == [
        "transcript.text.delta", "transcript.text.delta", "transcript.text.done",
    ]  # fmt: skip
    assert [event.delta for event in events[:2]] == ["Hello.", " Goodbye <you>."]
    assert (events[2].text, events[2].usage.seconds) == (TEXT, 4)
    assert wishes(worker) == {"follow": True}


def test_a_stream_never_takes_words_back(client: openai.OpenAI, worker: Worker) -> None:
    def changing(worker: Worker, item: Any) -> None:
        worker.show(item, {"done": 1, "text": "Something else"})
        eventually(lambda: len(events) == 1)
        worker.hear(item)

    worker.work = changing
    events: list[Any] = []
    stream = client.audio.transcriptions.create(
        model="whisper-1", file=("a.wav", SOUND), stream=True
    )
    for event in stream:
        events.append(event)  # noqa: PERF402 - the worker looks at it meanwhile
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert events[1].text == TEXT


def test_a_stream_ends_with_done_or_with_an_error(
    ask: Ask, client: openai.OpenAI, worker: Worker
) -> None:
    answer = ask(stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    worker.work = lambda worker, item: worker.settle(item)
    with pytest.raises(openai.APIError, match="made no transcript"):
        list(
            client.audio.transcriptions.create(
                model="whisper-1", file=("a.wav", SOUND), stream=True
            )
        )


# ---- errors ----


def dying(why: str) -> Callable[[Worker, Any], None]:
    """What makes every item a dead letter."""

    def work(worker: Worker, item: Any) -> None:
        worker.consumer.dead_letter(item, why=why)

    return work


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"content": None}, 400, "invalid_value", "file"),
        ({"content": b""}, 400, "invalid_value", "file"),
        ({"model": "whisper"}, 404, "model_not_found", "model"),
        ({"response_format": "pdf"}, 400, "invalid_value", "response_format"),
        ({"language": "klingon"}, 400, "invalid_value", "language"),
        ({"temperature": "2"}, 400, "invalid_value", "temperature"),
        ({"temperature": "warm"}, 400, "invalid_value", "temperature"),
        ({"stream": "perhaps"}, 400, "invalid_value", "stream"),
        ({"prompt": "x" * 10_001}, 400, "invalid_value", "prompt"),
        ({"timestamp_granularities": "letter"}, 400, "invalid_value", "timestamp_granularities"),
        ({"timestamp_granularities": "[1]"}, 400, "invalid_value", "timestamp_granularities"),
        ({"chunking_strategy": "none"}, 400, "invalid_value", "chunking_strategy"),
        (
            {"chunking_strategy": '{"threshold": 2}'},
            400,
            "invalid_value",
            "chunking_strategy[threshold]",
        ),
        ({"keywords": "x" * 10_001}, 400, "invalid_value", "keywords"),
        ({"upload_presigned_url": "ftp://x/y"}, 400, "invalid_value", "upload_presigned_url"),
        (
            {"upload_presigned_url": "http://127.0.0.1/y"},
            400,
            "invalid_value",
            "upload_presigned_url",
        ),
        (
            {"upload_presigned_url": "https://x/y?X-Amz-Date=20200101T000000Z&X-Amz-Expires=60"},
            400,
            "invalid_value",
            "upload_presigned_url",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_openais_form(
    ask: Ask, api: Api, queue: Queue, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    answer = ask(**fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert answer.headers["x-request-id"]
    assert queue.waiting("calls") == []
    folder = api.context.uploads.folder
    assert not folder.exists() or list(folder.iterdir()) == []


def test_errors_by_openais_client(
    api: Api, client: openai.OpenAI, worker: Worker, serve: Callable[..., Api], queue: Queue
) -> None:
    def refused(kind: type[openai.APIStatusError], client: openai.OpenAI = client) -> Any:
        with pytest.raises(kind) as error:
            client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND))
        assert error.value.request_id
        return error.value

    with client_of(api, "nobody") as stranger:
        assert refused(openai.AuthenticationError, stranger).code == "invalid_api_key"
    with client_of(api, "read") as reader:
        assert refused(openai.PermissionDeniedError, reader).code == "role_missing"
    worker.work = dying("rejected")
    bad = refused(openai.BadRequestError)
    assert (bad.code, bad.param) == ("invalid_audio", "file")
    worker.work = dying("failed")
    failed = refused(openai.InternalServerError)
    assert failed.code == "job_failed"
    assert failed.response.headers["x-should-retry"] == "false"
    small = serve(CONSERVER_UPLOAD_MAX_BYTES="1000")
    with client_of(small) as limited:
        assert refused(openai.APIStatusError, limited).status_code == 413


def test_what_another_try_cannot_change_is_not_tried_again(api: Api, worker: Worker) -> None:
    worker.work = dying("failed")
    with client_of(api, retries=3) as client, pytest.raises(openai.InternalServerError):
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND))
    assert len(worker.taken) == 1


def test_a_full_list_is_tried_again_by_the_client(
    serve: Callable[..., Api], queue: Queue, redis_url: str
) -> None:
    api = serve(CONSERVER_LIST_CAP="1")
    queue.push("calls", "another")
    refusal = httpx.post(
        f"{api.url}/v1/audio/transcriptions",
        files={"file": ("a.wav", SOUND)},
        headers={"Authorization": "Bearer text-submit"},
        timeout=60,
    )
    assert refusal.status_code == 503
    assert refusal.json()["error"]["code"] == "list_full"
    assert int(refusal.headers["retry-after"]) <= 120
    assert "x-should-retry" not in refusal.headers


def test_a_path_below_is_not_there_in_openais_form_too(submit: httpx.Client) -> None:
    answer = submit.get("/v1/audio/speech")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert submit.get("/api/v1/models").json()["object"] == "list"


def test_what_openais_clients_call_and_is_not_there_says_what_there_is(
    client: openai.OpenAI, submit: httpx.Client
) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    assert (refused.value.code, refused.value.type) == ("not_found", "invalid_request_error")
    assert "/v1/audio/transcriptions" in refused.value.message
    for path in ("chat/completions", "responses", "embeddings", "files/f-1", "completions"):
        assert submit.post(f"/v1/{path}").json().keys() == {"error"}, path
    for path in ("chats", "jobs/x/y/z", "nothing"):
        assert submit.post(f"/v1/{path}").headers["content-type"] == "application/problem+json"


def test_not_a_form(submit: httpx.Client) -> None:
    answer = submit.post("/v1/audio/transcriptions", json={"file": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "form")


@pytest.mark.parametrize("route", ["audio/transcriptions", "jobs"])
def test_a_form_in_any_spelling(submit: httpx.Client, worker: Worker, route: str) -> None:
    named = b'--B\r\nContent-Disposition: form-data; name="list"\r\n\r\ncalls\r\n'
    file = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    answer = submit.post(
        f"/v1/{route}",
        content=named + file + SOUND + b"\r\n--B--\r\n",
        headers={"Content-Type": "Multipart/Form-Data; boundary=B"},
    )
    assert answer.is_success, answer.text
