"""notify against real HTTP servers: what arrives, what is final, what is tried again."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from conserver.errors import Cancelled, Rejected, Retry
from conserver.links import notify
from conserver.links.notify import Options
from conserver.outbound.callback import Callback
from conserver.outbound.event import Event, Notification, parse
from conserver.outbound.faults import FailedAttemptError
from conserver.testing.http_server import Reply, serving
from conserver.vcon.document import Vcon
from tests.unit.links.stage import Context

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
OTHER = "whsec_" + base64.b64encode(b"fedcba987654321076543210").decode()
WORDS = "a call about grüße"
QUERY = "X-Amz-Signature=0123456789abcdef&X-Amz-Credential=AKIA%2F2026"


def document(**analysis: Any) -> bytes:
    """A vCon with a transcript that has times."""
    segments = [{"id": 0, "start": 0.5, "end": 2.5, "text": WORDS}]
    body = {"transcript": {"text": WORDS, "language": "de", "duration": 3.0}, "segments": segments}
    one = {"type": "wtf_transcription", "dialog": 0, "encoding": "json", "body": body, **analysis}
    return orjson.dumps({"vcon": "0.4.0", "uuid": "u1", "analysis": [one]})


def event(status: str = "completed", **error: Any) -> Event:
    return Event("j1", 7, status, "calls", "u1", 1_700_000_000_000, 1_700_000_005_500, error)


def notify_once(
    callback: dict[str, Any] | None,
    told: Event | None = None,
    text: bytes | None = None,
    *,
    attempt: int = 1,
    context: Context | None = None,
    **options: Any,
) -> None:
    """Run the link, as a worker does."""
    made = None if callback is None else Callback.model_validate(callback)
    ended = told or event()
    found: Any = context or Context()
    found.attempt = attempt
    found.notification = Notification(ended, made, document() if text is None else text)
    given = {"secret": SECRET, "allow_private_addresses": True, **options}
    notify.run(Vcon.parse(b'{"vcon":"0.4.0","uuid":"u1"}'), Options(**given), found)


# ---- webhooks ----


def test_a_webhook_says_what_happened_and_is_signed() -> None:
    told = event(
        "failed", reason="rejected", error="HTTP 418\nteapot", type="Rejected", link="transcribe"
    )
    with serving(Reply(204, b"")) as server:
        notify_once({"url": server.url + "/hook?a=b", "headers": {"X-A": "b"}}, told)
        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/hook?a=b")
        assert request.headers["x-a"] == "b"
        assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
        assert Webhook(SECRET).verify(request.body, request.headers) == {
            "type": "job.failed",
            "timestamp": "2023-11-14T22:13:25.500Z",
            "data": {
                "job_id": "j1",
                "status": "failed",
                "list": "calls",
                "uuid": "u1",
                "created_at": "2023-11-14T22:13:20.000Z",
                "ended_at": "2023-11-14T22:13:25.500Z",
                "error": {
                    "type": "Rejected",
                    "message": "HTTP 418\nteapot",
                    "reason": "rejected",
                    "where": "transcribe",
                    "attempts": 0,
                },
            },
        }


def test_the_id_stays_and_the_next_end_has_another() -> None:
    with serving(Reply(204, b"")) as server:
        for told in (event(), event(), Event("j1", 8, "completed", "calls", "u1", 0, 0)):
            notify_once({"url": server.url}, told)
        first, again, later = [request.headers["webhook-id"] for request in server.requests]
    assert first == again != later
    assert "." not in first, "it is joined to the timestamp with one"


def test_two_secrets_sign_while_one_is_new(tmp_path: Any) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"crm {OTHER} {SECRET}\n")
    with serving() as server:
        notify_once({"url": server.url, "key": "crm"}, secret="", secret_file=str(file))
        (request,) = server.requests
        for secret in (SECRET, OTHER):
            Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize("options", [{"secret": ""}, {"secret_file": "/nowhere"}])
def test_a_host_without_the_secret_leaves_it_to_others(options: dict[str, Any]) -> None:
    with pytest.raises(Retry, match="secret"):
        notify_once({"url": "http://127.0.0.1:9/"}, **options)


@pytest.mark.parametrize(
    ("wanted", "result"),
    [("text", f"{WORDS}\n"), ("vcon", orjson.loads(document())), ("json", None)],
)
def test_a_webhook_has_the_result_if_that_is_asked_for(wanted: str, result: Any) -> None:
    with serving() as server:
        notify_once({"url": server.url, "format": wanted})
        data = server.requests[0].json["data"]
    assert data["format"] == wanted
    assert data["result"] == result or data["result"]["text"] == WORDS


def test_a_webhook_without_the_result_says_why() -> None:
    with serving() as server:
        notify_once({"url": server.url, "format": "srt"}, text=b"")
        data = server.requests[0].json["data"]
    assert (data["result"], data["result_error"]) == (None, "the vCon of the job is gone")


# ---- presigned URLs ----


@pytest.mark.parametrize(
    ("wanted", "kind", "part"),
    [
        ("json", "application/json", b'"text":"a call'),
        ("verbose_json", "application/json", b'"language":"de"'),
        ("text", "text/plain; charset=utf-8", WORDS.encode()),
        ("srt", "application/x-subrip; charset=utf-8", b"00:00:00,500 --> "),
        ("vtt", "text/vtt; charset=utf-8", b"WEBVTT"),
        ("vcon", "application/json", document()),
    ],
)
def test_a_presigned_url_gets_the_result_in_its_format(wanted: str, kind: str, part: bytes) -> None:
    with serving(Reply(200, b"")) as server:
        notify_once({"url": f"{server.url}/a?{QUERY}", "kind": "put", "format": wanted})
        (request,) = server.requests
    assert (request.method, request.path) == ("PUT", f"/a?{QUERY}")
    assert part in request.body
    assert request.headers["content-type"] == kind
    assert "transfer-encoding" not in request.headers, "S3 wants the length"


def test_the_text_of_documents_is_a_result_too() -> None:
    pages = [{"page": 1, "text": "one"}, {"page": 2, "text": "two"}]
    analysis = {"type": "document_text", "attachment": 0, "body": {"pages": pages}}
    text = orjson.dumps({"vcon": "0.4.0", "uuid": "u1", "analysis": [analysis]})
    with serving(Reply(200, b"")) as server:
        for wanted in ("json", "text", "srt"):
            notify_once({"url": server.url, "kind": "put", "format": wanted}, text=text)
        as_json, as_text, as_srt = server.requests
    assert as_json.json["text"] == "one\n\ntwo"
    assert [page["number"] for page in as_json.json["documents"][0]["pages"]] == [1, 2]
    assert as_text.body == b"one\n\ntwo\n"
    assert as_srt.json["error"]["type"] == "no_result"


@pytest.mark.parametrize(
    ("told", "text", "type_", "message"),
    [
        (event("failed", reason="poison", error="it died"), b"", "poison", "it died"),
        (event("failed"), b"", "failed", "it failed, and nothing says why"),
        (event("cancelled"), b"", "cancelled", "the job was cancelled"),
        (event(), b"", "no_result", "the vCon of the job is gone"),
        (event("filtered"), b'{"vcon":"0.4.0","uuid":"u1"}', "no_result", "holds no transcript"),
    ],
)
def test_a_presigned_url_gets_the_error_where_there_is_no_result(
    told: Event, text: bytes, type_: str, message: str
) -> None:
    with serving(Reply(200, b"")) as server:
        notify_once({"url": server.url, "kind": "put", "format": "srt"}, told, text)
        (request,) = server.requests
    assert request.headers["content-type"] == "application/json"
    assert request.json["status"] == told.status
    assert request.json["error"]["type"] == type_
    assert message in request.json["error"]["message"]


def test_content_type_is_not_sent_where_it_is_signed() -> None:
    """Version 2 of S3's signatures covers it: one of ours would be a 403."""
    with serving() as server:
        notify_once({"url": f"{server.url}/?Signature=x&Expires=9999999999", "kind": "put"})
        notify_once({"url": f"{server.url}/?sv=2024&sig=x", "kind": "put"})
    assert "content-type" not in server.requests[0].headers
    assert server.requests[1].headers["x-ms-blob-type"] == "BlockBlob", "Azure wants it"


def test_one_that_has_expired_is_not_even_tried() -> None:
    with serving() as server:
        url = f"{server.url}/a?X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&{QUERY}"
        with pytest.raises(Rejected, match=r"expired at 2026-01-02T03:05:05"):
            notify_once({"url": url, "kind": "put"})
        assert server.requests == []


# ---- what comes back ----


@pytest.mark.parametrize("status", [403, 410])
def test_some_answers_are_final(status: int) -> None:
    said = f"<Code>AccessDenied</Code>\n<Provided>0123456789abcdef</Provided> {QUERY}".encode()
    with serving(Reply(status, said)) as server:
        with pytest.raises(Rejected, match=f"HTTP {status}: <Code>AccessDenied") as caught:
            notify_once({"url": f"{server.url}/a?{QUERY}", "kind": "put"})
        assert len(server.requests) == 1
    for secret in ("0123456789abcdef", "AKIA", QUERY):
        assert secret not in str(caught.value), "S3 quotes what was signed"


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 408, 429, 500, 502, 503, 504])
def test_other_answers_are_tried_again_until_the_last_try(status: int) -> None:
    with serving(Reply(status, b"no", {"Location": "{url}/elsewhere"})) as server:
        with pytest.raises(Retry) as caught:
            notify_once({"url": server.url}, backoff_s=4)
        assert caught.value.after_s is not None
        assert 2 <= caught.value.after_s <= 4
        with pytest.raises(Retry):
            notify_once({"url": server.url}, attempt=2)
        with pytest.raises(FailedAttemptError, match=f"HTTP {status}: no .tried 3 times."):
            notify_once({"url": server.url}, attempt=3)
        assert [request.path for request in server.requests] == ["/"] * 3, "no redirect"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_receiver_says_when_to_come_again(status: int) -> None:
    reply = Reply(status, b"", {"Retry-After": "77"})
    with serving(reply) as server, pytest.raises(Retry) as caught:
        notify_once({"url": server.url})
    assert caught.value.after_s == 77


def test_nobody_there_is_tried_again_and_names_no_query() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(Retry, match=rf"PUT http://127.0.0.1:{port}/a: ConnectError") as caught:
            notify_once({"url": f"http://127.0.0.1:{port}/a?{QUERY}", "kind": "put"})
    assert "Signature" not in str(caught.value)


def test_an_answer_that_is_cut_is_tried_again() -> None:
    cut = Reply(200, b"x" * 1000, cut=True)
    with serving(cut) as server, pytest.raises(Retry, match="RemoteProtocolError"):
        notify_once({"url": server.url})


@contextmanager
def sluggish(*, reads: bool) -> Iterator[str]:
    """A server that takes a byte every 50 ms, or that reads all and answers as slowly."""
    stop = threading.Event()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # The client's time was over before it came.
            with connection:
                connection.settimeout(10)
                head = b""
                while reads and b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                    head += more
                while not stop.wait(0.05):
                    try:
                        if reads:
                            connection.send(b"H")
                        else:
                            connection.recv(1)
                    except OSError:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            stop.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("reads", [False, True], ids=["takes slowly", "answers slowly"])
def test_a_try_is_over_in_time_however_the_receiver_trickles(reads: bool) -> None:
    """Each read and write succeeds in time; the whole does not."""
    large = document(more="x" * 8_000_000) if not reads else document()
    with (
        sluggish(reads=reads) as url,
        pytest.raises(Retry, match=r"not finished within 1 s|imeout"),
    ):
        notify_once({"url": url, "kind": "put", "format": "vcon"}, text=large, timeout_s=1)


def test_a_worker_that_stops_is_not_kept() -> None:
    with sluggish(reads=True) as url, pytest.raises(Cancelled):
        notify_once({"url": url}, context=Context(cancel_after=3))


# ---- where it may not go ----


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/", "http://169.254.1.1/"]
)
def test_addresses_of_our_own_networks_are_refused(url: str) -> None:
    with pytest.raises(Rejected, match="CONSERVER_CALLBACK_PRIVATE_ADDRESSES"):
        notify_once({"url": url}, allow_private_addresses=False)


# ---- what is no notification ----


def test_other_items_are_rejected() -> None:
    context: Any = Context()
    context.notification = None
    with pytest.raises(Rejected, match="no end of a job"):
        notify.run(Vcon.parse(document()), Options(), context)


def test_a_callback_that_is_gone_is_a_clear_failure() -> None:
    with pytest.raises(Rejected, match="CONSERVER_JOB_MAX_S"):
        notify_once(None)


@pytest.mark.parametrize(
    "payload", [b"u1", b"{}", b'{"notification":{}}', b'{"uuid":"u1","notification":3}', b"[1]"]
)
def test_what_is_no_event_is_none(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"notification|JSON|unexpected|Invalid"):
        parse(payload)


def test_an_error_that_is_no_json_is_told_as_it_is() -> None:
    told = {"job": "j", "seq": 1, "status": "failed", "list": "q", "created_ms": 0, "ended_ms": 0}
    for text, found in (("boom", {"error": "boom"}), ("", {}), ("[1]", {"error": "[1]"})):
        payload = orjson.dumps({"uuid": "u1", "notification": {**told, "error": text}})
        assert parse(payload).error == found
