"""webhook against a real HTTP server: what arrives, what is signed, what counts as delivered."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

import pytest
from pydantic import ValidationError

from conserver.links import webhook
from conserver.links.webhook import Options, prepare
from conserver.outbound.faults import FailedAttemptError
from conserver.testing.http_server import Reply, serving
from conserver.testing.links import UUID, make_vcon, run_link
from conserver.vcon.document import Vcon
from tests import vcons


def options(*urls: str, **others: Any) -> Options:
    return Options.model_validate({"urls": urls, **others})


def test_the_vcon_arrives_as_it_is() -> None:
    """An unchanged one with its original bytes, a changed one with the change; to every URL."""
    raw = vcons.raw("old_call")
    given = Vcon.parse(raw)
    with serving(Reply(204, b"")) as server:
        run_link(webhook, given, options(server.url + "/a", server.url + "/b?c=d"))
        given.add_tag("x", "y")
        run_link(webhook, given, options(server.url + "/a"))
    first, second, third = server.requests
    assert (first.body, first.path, second.body, second.path) == (raw, "/a", raw, "/b?c=d")
    assert third.body == given.dump() != raw
    assert first.headers["content-type"] == "application/json"


def test_headers_are_sent_and_not_shown() -> None:
    settings = Options.model_validate(
        {"webhook-urls": ["http://127.0.0.1:9/"], "headers": {"Authorization": "Bearer s3cret"}}
    )
    assert "s3cret" not in repr(settings)
    with serving() as server:
        sent = options(
            server.url, headers={"Authorization": "Bearer s3cret", "Content-Type": "x/y"}
        )
        run_link(webhook, make_vcon(), sent)
    assert server.requests[0].headers["authorization"] == "Bearer s3cret"
    assert server.requests[0].headers["content-type"] == "x/y"


@pytest.mark.parametrize(
    ("secret", "key"),
    [("whsec_" + base64.b64encode(b"key of 24 bytes").decode(), b"key of 24 bytes"), ("pw", b"pw")],
)
def test_a_call_can_be_verified(secret: str, key: bytes) -> None:
    """As the Standard Webhooks libraries do it: id, timestamp and body, HMAC-SHA256."""
    with serving() as server:
        run_link(webhook, make_vcon(a=1), options(server.url, secret=secret))
    request = server.requests[0]
    identity, stamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    message = f"{identity}.{stamp}.".encode() + request.body
    expected = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(stamp) - time.time()) < 60


def test_the_same_content_has_the_same_id() -> None:
    """By which an endpoint tells a repeated call from a new version of the vCon."""
    with serving() as server:
        run_link(webhook, make_vcon(a=1), options(server.url))
        run_link(webhook, make_vcon(a=1), options(server.url))
        run_link(webhook, make_vcon(a=2), options(server.url))
    ids = [request.headers["webhook-id"] for request in server.requests]
    assert ids[0] == ids[1] != ids[2]
    assert all(identity.startswith(f"{UUID}.") for identity in ids)


def test_trouble_is_retried_and_then_parked() -> None:
    with serving(Reply(500), Reply(200)) as server:
        assert run_link(webhook, make_vcon(), options(server.url)).outcome == "done"
        assert len(server.requests) == 2
    with serving(Reply(429, headers={"Retry-After": "120"})) as server:
        result = run_link(webhook, make_vcon(), options(server.url))
    assert result.retry is not None
    assert result.retry.after_s == 120


def test_a_refusal_is_a_failure_with_the_answer() -> None:
    with serving(Reply(422, b"no such customer")) as server:
        with pytest.raises(FailedAttemptError, match="HTTP 422: no such customer"):
            run_link(webhook, make_vcon(), options(server.url, server.url))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"urls": []},
        {"urls": ["ftp://example.com"]},
        {"urls": ["example.com"]},
        {"urls": ["http://example.com"], "secret": "whsec_!!"},
        {"urls": ["http://example.com"], "attempts": 0},
        {"urls": ["http://example.com"], "url": "http://example.com"},
    ],
)
def test_wrong_options_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)


def test_prepare_opens_nothing() -> None:
    with serving() as server:
        prepare(options(server.url))
        assert server.connections == 0
