"""storage.webhook: what a receiver is sent, and what its answers mean."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from storage.contract import Document, Outcome, Rejected, Stored, Unavailable
from storage.webhook import Options, Storage
from tests.contract.places import document
from tests.helpers import TcpProxy, free_port
from tests.standins import Answer, Request, Standin


def posting(*urls: str, **options: Any) -> Storage:
    """An open storage that posts to these."""
    given = {"webhook-urls": list(urls), "timeout_s": 5, **options}
    storage = Storage("webhook", Options.model_validate(given))
    storage.open()
    return storage


def one(storage: Storage, given: Document) -> Outcome:
    (outcome,) = storage.save_many([given])
    return outcome


def always(status: int, body: bytes = b"", **headers: str) -> Callable[[Request], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: Answer(status, body, named)


def test_what_a_receiver_is_sent() -> None:
    given = document(17, subject="naïve")
    with Standin(always(200)) as server:
        url = f"{server.url}/a/path?and=query"
        options = {"headers": {"Authorization": "Bearer t0ken"}, "secret": "shared"}
        with closing(posting(url, **options)) as storage:
            storage.ready()
            assert one(storage, given) == Stored()
        (request,) = server.requests
    assert request.method == "POST"
    assert request.path == "/a/path?and=query"
    assert request.body == given.body
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == "Bearer t0ken"
    assert request.headers["x-conserver-uuid"] == given.uuid
    assert request.headers["x-conserver-revision"] == "17"
    digest = hmac.new(b"shared", given.body, hashlib.sha256).hexdigest()
    assert request.headers["x-conserver-signature"] == f"sha256={digest}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (always(204), Stored()),
        (always(202, b"queued"), Stored()),
        (always(409), Stored(superseded=True)),
        (always(422, b"no parties"), Rejected),
        (always(400), Rejected),
        (always(413), Rejected),
        (always(401), Unavailable),
        (always(404), Unavailable),
        (always(302, location="http://elsewhere"), Unavailable),
        (always(500), Unavailable),
        (always(503, retry_after="30"), Unavailable),
        (always(429, retry_after="7"), Unavailable),
    ],
)
def test_what_an_answer_means(answer: Callable[[Request], Answer], expected: object) -> None:
    with Standin(answer) as server, closing(posting(server.url)) as storage:
        outcome = one(storage, document())
    if isinstance(expected, type):
        assert isinstance(outcome, expected)
        assert isinstance(outcome, Rejected | Unavailable)
        told = answer(Request("POST", "/", {}, b""))
        assert str(told.status) in outcome.reason
        assert told.body.decode() in outcome.reason
        if isinstance(outcome, Unavailable) and "retry-after" in told.headers:
            assert outcome.after_s == float(told.headers["retry-after"])
    else:
        assert outcome == expected


def test_all_receivers_must_take_it() -> None:
    with Standin(always(200)) as first, Standin(always(503)) as second:
        with closing(posting(first.url, second.url)) as storage:
            outcomes = storage.save_many([document(), document()])
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        assert first.count("POST") == second.count("POST") == 2


def test_one_document_that_is_refused_harms_no_other() -> None:
    bad = document()

    def answer(request: Request) -> Answer:
        return Answer(422 if request.headers["x-conserver-uuid"] == bad.uuid else 200)

    with Standin(answer) as server, closing(posting(server.url)) as storage:
        outcomes = storage.save_many([document(), bad, document()])
    assert [type(outcome) for outcome in outcomes] == [Stored, Rejected, Stored]


def test_nobody_there() -> None:
    with closing(posting(f"http://127.0.0.1:{free_port()}/")) as storage:
        outcomes = storage.save_many([document() for _ in range(20)])
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        with pytest.raises(ConnectionError, match="refused"):
            storage.ready()


def test_connections_are_kept_and_renewed() -> None:
    with (
        Standin(always(200)) as server,
        TcpProxy(int(server.url.rpartition(":")[2])) as proxy,
        closing(posting(proxy.url(server.url), concurrency=1)) as storage,
    ):
        storage.save_many([document() for _ in range(10)])
        assert proxy.connections == 1
        proxy.cut_all()
        assert one(storage, document()) == Stored()


def test_nothing_is_given_back_or_deleted() -> None:
    with Standin(always(200)) as server, closing(posting(server.url)) as storage:
        given = document()
        one(storage, given)
        assert storage.get(given.uuid) is None
        assert storage.delete(given.uuid) is False


@pytest.mark.parametrize("uuid", ["a\r\nx-evil: 1", "é", "a\0"])
def test_a_uuid_that_is_no_header(uuid: str) -> None:
    given = document()
    given.uuid = uuid
    with Standin(always(200)) as server, closing(posting(server.url)) as storage:
        assert isinstance(one(storage, given), Rejected)
        assert server.requests == []


@pytest.mark.parametrize("urls", [[], ["ftp://a"], ["not a url"], "http://a"])
def test_options_that_make_no_sense(urls: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Options.model_validate({"webhook-urls": urls})


def test_secrets_are_not_shown() -> None:
    options = Options.model_validate(
        {"webhook-urls": ["http://a"], "secret": "s3cret", "headers": {"a": "t0ken"}}
    )
    assert "s3cret" not in repr(options)
    assert "t0ken" not in repr(options)
