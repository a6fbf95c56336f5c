"""A call through a server with OpenAI's routes: what it is sent, what is made of its answers."""

from __future__ import annotations

import email
import io
import json
import threading
import wave
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from conserver.errors import Cancelled, Rejected, Retry
from conserver.links.transcribe import Options, speech_model
from conserver.media.speech.remote import RemoteTranscriber, ServerOptions
from conserver.media.transcription.audio import SAMPLE_RATE_HZ
from conserver.media.transcription.engine import CallHeard, Following, Listening, Segment
from conserver.outbound.faults import FailedAttemptError
from tests.standins import Answer, Request, Standin
from tests.unit.media.transcription.sounds import silence, tone

HELLO: dict[str, Any] = {
    "task": "transcribe",
    "language": "english",
    "duration": 3.0,
    "text": " Hello, world! Good bye.",
    "words": [
        {"word": "Hello", "start": 0.1, "end": 0.5},
        {"word": "world", "start": 0.6, "end": 1.0},
        {"word": "Good", "start": 1.5, "end": 1.8},
        {"word": "bye", "start": 1.9, "end": 2.2},
    ],
    "segments": [
        {"id": 0, "start": 0.0, "end": 1.2, "text": " Hello, world!", "avg_logprob": -0.2,
         "no_speech_prob": 0.01, "compression_ratio": 0.9, "temperature": 0.0},
        {"id": 1, "start": 1.4, "end": 2.3, "text": " Good bye.", "avg_logprob": -0.4,
         "no_speech_prob": 0.02, "compression_ratio": 1.1, "temperature": 0.0},
    ],
}  # fmt: skip
SOUND = tone(seconds=3, rate_hz=SAMPLE_RATE_HZ)


def nothing(*_: object) -> None:
    pass


def answering(said: Any, status: int = 200, **headers: str) -> Callable[[Request], Answer]:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return lambda _: Answer(status, body, headers)


def hear(
    server: Standin,
    *channels: Any,
    following: Following | None = None,
    listening: Mapping[str, Any] | None = None,
    **options: Any,
) -> CallHeard:
    told = ServerOptions.model_validate({"base_url": f"{server.url}/v1/", **options})
    how = Listening(**{"vad": False, **(listening or {})})
    engine = RemoteTranscriber(told, "whisper-large-v3")
    return engine.transcribe(channels or [SOUND], how, following or Following(nothing))


def form_of(request: Request) -> dict[str, list[Any]]:
    """The fields of a form; `file` is its content."""
    head = f"content-type: {request.headers['content-type']}\n\n".encode()
    fields: dict[str, list[Any]] = {}
    parts = email.message_from_bytes(head + request.body).get_payload()
    assert isinstance(parts, list)
    for part in parts:
        assert isinstance(part, Message)
        name = str(part.get_param("name", header="content-disposition"))
        value = part.get_payload(decode=True)
        assert isinstance(value, bytes)
        fields.setdefault(name, []).append(value if name == "file" else value.decode())
    return fields


def samples_of(content: bytes) -> Any:
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, SAMPLE_RATE_HZ)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def test_a_server_is_asked_as_openais_clients_ask_and_gets_the_very_sound() -> None:
    listening = {"language": "de", "prompt": "Özdemir", "hotwords": "codec", "temperatures": (0.4,)}
    with Standin(answering(HELLO)) as server:
        hear(server, listening=listening, api_key="secret-key")
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/audio/transcriptions")
    assert request.headers["authorization"] == "Bearer secret-key"
    fields = form_of(request)
    assert np.array_equal(samples_of(fields.pop("file")[0]), SOUND)
    assert fields == {
        "model": ["whisper-large-v3"],
        "response_format": ["verbose_json"],
        "language": ["de"],
        "prompt": ["Özdemir"],
        "hotwords": ["codec"],
        "temperature": ["0.4"],
        "timestamp_granularities[]": ["segment", "word"],
    }


def test_words_get_their_spaces_and_punctuation_back_and_make_sentences() -> None:
    with Standin(answering(HELLO)) as server:
        heard = hear(server)
    (channel,) = heard.channels
    assert channel.language == "en"
    assert [segment.text for segment in channel.segments] == ["Hello, world!", "Good bye."]
    words = [word for segment in channel.segments for word in segment.words]
    assert [word.text for word in words] == ["Hello,", " world!", " Good", " bye."]
    assert [(word.start_s, word.end_s) for word in words][1] == (0.6, 1.0)
    assert words[0].confidence == pytest.approx(0.74, abs=0.01)
    assert channel.warnings == ()
    identity = heard.identity
    assert (identity.provider, identity.model) == ("openai", "whisper-large-v3")
    assert identity.product.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("said", "segments", "warns"),
    [
        ({"text": "Hello."}, [(0.0, 3.0, "Hello.")], True),
        ({**HELLO, "words": None}, [(0.0, 1.2, "Hello, world!"), (1.4, 2.3, "Good bye.")], False),
        ({**HELLO, "words": [{"word": "Hello,"}]},
         [(0.0, 1.2, "Hello, world!"), (1.4, 2.3, "Good bye.")], False),
        ({"text": " "}, [], False),
        ({"text": "", "segments": [], "words": [], "language": None}, [], False),
        ({**HELLO, "words": [{"word": "other", "start": 1, "end": 2}]},
         [(1.0, 2.0, "other")], False),
        ({"text": "Hi", "segments": [{"text": "Hi", "start": 7, "end": 5}]},
         [(3.0, 3.0, "Hi")], True),
    ],
    ids=["text", "segments", "no times", "blank", "empty", "other words", "odd times"],
)  # fmt: skip
def test_what_a_server_leaves_out_is_done_without(
    said: dict[str, Any], segments: list[tuple[float, float, str]], *, warns: bool
) -> None:
    with Standin(answering(said)) as server:
        (channel,) = hear(server).channels
    assert [(one.start_s, one.end_s, one.text) for one in channel.segments] == segments
    assert bool(channel.warnings) == warns


def test_words_within_segments_are_read_too() -> None:
    """As speaches and faster-whisper's own servers send them."""
    words = [
        {"word": " Hello,", "start": 0.1, "end": 0.5, "probability": 0.9},
        {"word": " world!", "start": 0.6, "end": 1.0, "probability": 0.8},
    ]
    said = {"text": "Hello, world!", "segments": [{**HELLO["segments"][0], "words": words}]}
    with Standin(answering(said)) as server:
        (segment,) = hear(server).channels[0].segments
    assert [(word.text, word.confidence) for word in segment.words] == [
        ("Hello,", 0.9),
        (" world!", 0.8),
    ]


def test_words_without_times_follow_the_word_before() -> None:
    """As whisperX leaves out the times of what it cannot align."""
    words = [
        {"word": "In", "start": None, "end": None},
        {"word": "May", "start": 0.4, "end": 0.6},
        {"word": "2014,"},
        {"word": "yes.", "start": 1.0, "end": 1.2},
    ]
    said = {"text": "In May 2014, yes.", "words": words}
    with Standin(answering(said)) as server:
        (segment,) = hear(server).channels[0].segments
    assert segment.text == "In May 2014, yes."
    assert [(word.text.strip(), round(word.end_s - word.start_s, 2)) for word in segment.words] == [
        ("In", 0.0), ("May", 0.2), ("2014,", 0.0), ("yes.", 0.2),
    ]  # fmt: skip


def test_text_of_silence_is_left_out() -> None:
    invented = {**HELLO["segments"][1], "avg_logprob": -1.5, "no_speech_prob": 0.9}
    said = {**HELLO, "segments": [HELLO["segments"][0], invented]}
    with Standin(answering(said)) as server:
        (segment,) = hear(server).channels[0].segments
    assert segment.text == "Hello, world!"


def test_silence_is_not_sent() -> None:
    with Standin(answering(HELLO)) as server:
        heard = hear(server, silence(5, SAMPLE_RATE_HZ), SOUND)
        assert len(server.requests) == 1
    assert [len(channel.segments) for channel in heard.channels] == [0, 2]
    assert [channel.language for channel in heard.channels] == [None, "en"]


def test_the_language_of_the_first_window_is_that_of_the_call() -> None:
    with Standin(answering({**HELLO, "language": "French"})) as server:
        heard = hear(server, tone(seconds=25, rate_hz=SAMPLE_RATE_HZ), window_s=5)
        languages = [form_of(request).get("language") for request in server.requests]
    assert languages[0] is None
    assert languages[1:] == [["fr"]] * (len(languages) - 1)
    assert len(languages) >= 5
    assert heard.channels[0].language == "fr"


def test_translations_have_a_route_of_their_own() -> None:
    with Standin(answering(HELLO)) as server:
        heard = hear(server, listening={"translate": True, "language": "de"})
        (request,) = server.requests
    assert request.path == "/v1/audio/translations"
    assert "language" not in form_of(request)
    assert heard.channels[0].language == "en"


def test_a_model_without_times_is_asked_for_none() -> None:
    with Standin(answering({"text": "Hello."})) as server:
        hear(server, response_format="json")
        fields = form_of(server.requests[0])
    assert fields["response_format"] == ["json"]
    assert "timestamp_granularities[]" not in fields


def test_a_server_that_is_busy_for_a_moment_is_asked_again() -> None:
    said = json.dumps(HELLO).encode()
    answers = [Answer(429, b"slow down", {"retry-after": "0"}), Answer(200, said)]
    with Standin(lambda _: answers.pop(0)) as server:
        assert len(hear(server).channels[0].segments) == 2
        keys = {request.headers["idempotency-key"] for request in server.requests}
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("status", "expected", "after_s"),
    [(429, Retry, 90.0), (503, Retry, 90.0), (401, Retry, 90.0), (413, Rejected, None),
     (400, FailedAttemptError, None)],
)  # fmt: skip
def test_whose_fault_an_answer_is(
    status: int, expected: type[Exception], after_s: float | None
) -> None:
    with Standin(answering(b'{"error": {}}', status, **{"retry-after": "90"})) as server:
        with pytest.raises(expected, match=f"HTTP {status}") as caught:
            hear(server, api_key="secret-key")
        assert len(server.requests) == 1
    assert getattr(caught.value, "after_s", None) == after_s
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>login</html>", "no JSON but '<html>login"),
        (b"[]", "no transcription"),
        (b"{}", "no transcription: text: Field required"),
        (b'{"text": null}', "no transcription: text"),
        (b'{"text": "a", "words": [{"word": "a", "start": "x"}]}', r"words\.0\.start"),
        (b'{"text": "a", "segments": [{"start": -1, "end": 2}]}', r"segments\.0\.start"),
    ],
)
def test_what_is_no_transcription_fails_the_attempt(body: bytes, why: str) -> None:
    with Standin(answering(body)) as server, pytest.raises(FailedAttemptError, match=why):
        hear(server)


def test_what_was_paid_is_kept_when_a_server_fails_later() -> None:
    sound = tone(seconds=25, rate_hz=SAMPLE_RATE_HZ)
    count, lock = [0], threading.Lock()

    def three(_: Request) -> Answer:
        with lock:
            count[0] += 1
            number = count[0]
        if number > 3:
            return Answer(503, b"later", {"retry-after": "60"})
        return answering(HELLO)(_)

    kept: dict[str, Any] = {}
    with Standin(three) as server:
        with pytest.raises(Retry):
            hear(server, sound, following=Following(nothing, keep=kept.update), window_s=5)
        kept = json.loads(json.dumps(kept))
        assert len(kept["said"]) == 3
        server.answer = answering(HELLO)
        before = len(server.requests)
        counts: list[float] = []
        follow = Following(nothing, lambda done_s, _: counts.append(done_s), kept=kept)
        heard = hear(server, sound, following=follow, window_s=5)
        windows = round(sum(len(one.segments) for one in heard.channels) / 2)
        assert len(server.requests) - before == windows - 3
        assert counts[-1] == pytest.approx(25, abs=0.1)
        # What was kept of other options is of no use.
        before = len(server.requests)
        hear(server, sound, following=follow, window_s=5, listening={"prompt": "other"})
        assert len(server.requests) - before == windows


def test_cancelling_sends_nothing_more() -> None:
    def pulse() -> None:
        if server.requests:
            raise Cancelled("no longer wanted")

    with Standin(answering(HELLO)) as server:
        sound = tone(seconds=60, rate_hz=SAMPLE_RATE_HZ)
        with pytest.raises(Cancelled):
            hear(server, sound, following=Following(pulse), window_s=5, parallel=1)
        assert len(server.requests) <= 2


def test_a_rate_is_kept() -> None:
    told: list[Any] = []

    def listen(channels: Sequence[Sequence[Segment]], until_s: float) -> None:
        told.append((len(channels[0]), until_s))

    with Standin(answering(HELLO)) as server:
        sound = tone(seconds=10, rate_hz=SAMPLE_RATE_HZ)
        follow = Following(nothing, heard=listen)
        hear(server, sound, window_s=5, requests_per_minute=6000, following=follow)
        assert len(server.requests) >= 2
    assert told[0][0] == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"device": "cuda"}, "device cannot be chosen here"),
        ({"beam_size": 5}, "beam_size cannot be chosen here"),
        ({"server": {"base_url": "ftp://x"}}, "URL scheme should be"),
        ({"server": {}}, "Field required"),
        ({"server": {"base_url": "http://x", "window_s": 1}}, "greater than or equal to 5"),
        ({"prompt": "a" * 10_001}, "at most 10000 characters"),
        ({"hotwords": "a" * 10_001}, "at most 10000 characters"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    server = {"base_url": "http://speech.example/v1", "api_key": "secret-key"}
    with pytest.raises(ValidationError, match=why) as caught:
        Options.model_validate({"model": "m", "server": server, **options})
    assert "secret-key" not in str(caught.value)


def test_a_link_with_a_server_wants_no_transcriber_and_tells_no_key() -> None:
    server = {"base_url": "http://speech.example/v1", "api_key": "secret-key"}
    options = Options.model_validate({"model": "m", "server": server})
    assert speech_model(options) is None
    assert "secret-key" not in repr(options)
