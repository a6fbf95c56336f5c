"""endpoint.py against a real HTTP server: what is tried again, what is final, what is bounded."""

from __future__ import annotations

import email.utils
import gzip
import time
import tracemalloc
import zlib
from typing import Any

import pytest

from conserver.errors import Cancelled, Rejected, Retry
from conserver.outbound import endpoint
from conserver.outbound.faults import FailedAttemptError
from conserver.testing.http_server import Reply, serving
from tests.helpers import free_port
from tests.unit.links.stage import Context


def post(url: str, context: Context | None = None, **options: Any) -> endpoint.Answer:
    settings = endpoint.CallOptions(**options)
    return endpoint.post(url, b"{}", {"x-a": "b"}, settings, context or Context(), 1000)


def test_an_answer_comes_back_whole() -> None:
    with serving(Reply(201, b"made", {"X-Id": "7"})) as server:
        answer = post(server.url + "/a?b=c")
    assert (answer.status, answer.content, answer.headers["x-id"]) == (201, b"made", "7")
    assert server.requests[0].path == "/a?b=c"
    assert server.requests[0].headers["x-a"] == "b"


def test_connections_are_kept_between_calls() -> None:
    with serving() as server:
        for _ in range(5):
            post(server.url)
        assert (len(server.requests), server.connections) == (5, 1)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_trouble_is_tried_again(status: int) -> None:
    with serving(Reply(status), Reply(200)) as server:
        assert post(server.url).status == 200
        assert len(server.requests) == 2


def test_lasting_trouble_asks_for_a_retry_with_the_reason() -> None:
    with serving(Reply(503, b"come back later")) as server:
        with pytest.raises(Retry, match=r"/x: HTTP 503: come back later") as caught:
            post(server.url.replace("://", "://user:secret@") + "/x?token=secret", attempts=2)
        assert len(server.requests) == 2
    assert caught.value.after_s is None
    assert "secret" not in str(caught.value)


def test_a_long_retry_after_parks_the_item_at_once() -> None:
    with serving(Reply(429, headers={"Retry-After": "90"})) as server:
        with pytest.raises(Retry) as caught:
            post(server.url)
        assert len(server.requests) == 1
    assert caught.value.after_s == 90


def test_a_short_retry_after_is_waited_for() -> None:
    with serving(Reply(429, headers={"retry-after-ms": "300"}), Reply(200)) as server:
        began_s = time.monotonic()
        assert post(server.url).status == 200
    assert time.monotonic() - began_s >= 0.3


@pytest.mark.parametrize(
    ("status", "headers", "throttled"),
    [
        (429, {"Retry-After": "90"}, [90.0]),
        (429, {}, []),
        (429, {"Retry-After": "0"}, []),
        (503, {"Retry-After": "90"}, []),
    ],
)
def test_too_many_requests_throttle_everybody(
    status: int, headers: dict[str, str], throttled: list[float]
) -> None:
    context = Context()
    with serving(Reply(status, headers=headers)) as server, pytest.raises(Retry):
        post(server.url, context, attempts=1)
    assert context.throttled == throttled


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Retry),
        (401, Retry),
        (403, Retry),
        (404, Retry),
        (407, Retry),
        (410, Retry),
        (415, Retry),
        (400, FailedAttemptError),
        (409, FailedAttemptError),
        (422, FailedAttemptError),
        (413, Rejected),
    ],
)
def test_only_a_fault_of_the_document_is_final(status: int, kind: type[Exception]) -> None:
    """A wrong URL or password is the machine's fault: no vCon becomes a dead letter for it."""
    with serving(Reply(status, b"no", {"Location": "{url}/else"})) as server:
        with pytest.raises(kind, match=f"HTTP {status}: no") as caught:
            post(server.url)
        assert len(server.requests) == 1
    assert ("check the link's URL" in str(caught.value)) == (kind is Retry)


def test_no_connection_is_trouble() -> None:
    with pytest.raises(Retry, match="ConnectError"):
        post(f"http://127.0.0.1:{free_port()}", attempts=2)


def test_an_answer_that_is_cut_off_is_trouble() -> None:
    with serving(Reply(200, b"0123456789", cut=True), Reply(200, b"whole")) as server:
        assert post(server.url).content == b"whole"


def test_a_trickling_answer_is_bounded_as_a_whole() -> None:
    with serving(Reply(200, b"x" * 500, drip_s=0.05)) as server:
        began_s = time.monotonic()
        with pytest.raises(Retry, match="took too long"):
            post(server.url, attempts=1, read_timeout_s=1.5)
        assert time.monotonic() - began_s < 20


def test_the_links_own_limit_bounds_a_call() -> None:
    with serving(Reply(200, b"x" * 500, drip_s=0.05)) as server:
        began_s = time.monotonic()
        with pytest.raises(Retry):
            post(server.url, Context(left_s=0.3))
        assert time.monotonic() - began_s < 20
    with serving() as server:
        with pytest.raises(Retry, match="used up"):
            post(server.url, Context(left_s=0))
        assert not server.requests


def test_too_much_of_an_answer_is_a_failed_attempt() -> None:
    for reply, words in ((Reply(200, b"x" * 1001), "1000 bytes"), (Reply(422, b"x" * 5000), "xxx")):
        with serving(reply) as server, pytest.raises(FailedAttemptError, match=words):
            post(server.url)


def test_a_cancelled_item_is_not_sent_again() -> None:
    with serving(Reply(503)) as server:
        with pytest.raises(Cancelled):
            post(server.url, Context(cancel_after=1))
        assert len(server.requests) == 1


def test_a_url_of_the_configuration_is_not_the_documents_fault() -> None:
    for url in ("ftp://example.com/", "http://[::1/"):
        with pytest.raises(Retry):
            post(url)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_an_answer_that_is_packed_is_unpacked_within_its_limit(coding: str) -> None:
    pack = gzip.compress if coding == "gzip" else zlib.compress
    packed = {"Content-Encoding": coding}
    bomb = pack(bytes(64 << 20))
    with serving(Reply(200, pack(b"words"), packed), Reply(200, bomb, packed)) as server:
        assert post(server.url).content == b"words"
        assert server.requests[0].headers["accept-encoding"] == "identity"
        tracemalloc.start()
        try:
            with pytest.raises(FailedAttemptError, match="answer of over 1000 bytes"):
                post(server.url)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_an_answer_that_is_not_packed_as_it_says_is_a_failed_attempt() -> None:
    answer = Reply(200, b"words", {"Content-Encoding": "gzip"})
    with serving(answer) as server, pytest.raises(FailedAttemptError, match="its answer"):
        post(server.url)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, 86_400),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 01 Jan 99999999999999 00:00:00 GMT"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert endpoint.retry_after_s(headers) == seconds


def test_retry_after_as_a_date() -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 55 < (endpoint.retry_after_s({"retry-after": date}) or 0) <= 60
