"""Callbacks as values: what is accepted, what they say of themselves, and what is never shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from pydantic import SecretStr, ValidationError

from conserver.outbound import callback as callbacks
from conserver.outbound.callback import Callback, expires_at

S3 = (
    "https://bucket.example.com/a.json?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2Fx"
    "&X-Amz-Date=20260102T030405Z&X-Amz-Expires=600&X-Amz-SignedHeaders=host&X-Amz-Signature=feed"
)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (S3, AT + 600),
        (S3.replace("X-Amz-", "x-amz-"), AT + 600),
        (S3.replace("X-Amz-", "X-Goog-"), AT + 600),
        (S3.replace("X-Amz-", "x-oss-"), AT + 600),
        ("https://b.example.com/k?Signature=abc&Expires=1767323045&AWSAccessKeyId=x", AT),
        ("https://cdn.example.com/k?Key-Pair-Id=x&Expires=1767323045", AT),
        ("https://a.blob.example.com/k?se=2026-01-02T03%3A04%3A05Z&sig=x", AT),
        ("https://a.blob.example.com/k?se=2026-01-02&sig=x", AT - 11_045),
        ("https://example.com/k", None),
        ("https://example.com/k?Expires=1767323045", None),  # Of whom, nobody knows.
        ("https://example.com/k?se=soon&sig=x", None),
        ("https://example.com/k?X-Amz-Date=20269999T000000Z&X-Amz-Expires=600", None),
        ("https://example.com/k?X-Amz-Date=20260102T030405Z&X-Amz-Expires=999999999999", None),
    ],
)
def test_a_presigned_url_says_until_when_it_may_be_used(url: str, expected: float | None) -> None:
    assert expires_at(url) == expected
    assert Callback.presigned(url).expires_at == expected
    assert Callback(url=SecretStr(url)).expires_at is None  # A webhook's address never expires.


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "https:///nowhere"}, "url"),
        ({"url": "https://example.com:port/"}, "url"),
        ({"url": "https://example.com/a b"}, "url"),
        ({"url": "https://..."}, "url"),
        ({"url": "https://" + "x" * 64 + ".example.com/"}, "url"),
        ({"url": "https://example.com/" + "x" * 9000}, "url"),
        ({"url": "https://example.com/", "kind": "post"}, "kind"),
        ({"url": "https://example.com/", "events": []}, "events"),
        ({"url": "https://example.com/", "events": ["started"]}, "events"),
        ({"url": "https://example.com/", "format": "pdf"}, "format"),
        ({"url": "https://example.com/", "headers": {"Host": "x"}}, "headers"),
        ({"url": "https://example.com/", "headers": {"webhook-id": "x"}}, "headers"),
        ({"url": "https://example.com/", "headers": {"a b": "x"}}, "headers"),
        ({"url": "https://example.com/", "headers": {"a": "x\r\ny: z"}}, "headers"),
        ({"url": "https://example.com/", "headers": {"a": "x "}}, "headers"),
        ({"url": "https://example.com/", "headers": {"a": "\tx"}}, "headers"),
        ({"url": "https://example.com/", "headers": {f"h{n}": "x" for n in range(21)}}, "headers"),
        ({"url": "https://example.com/", "key": "a/b"}, "key"),
        ({"url": "https://example.com/", "kind": "put", "key": "crm"}, ""),
        ({"url": "https://example.com/", "more": 1}, "more"),
    ],
)
def test_what_cannot_be_a_callback_is_refused(given: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Callback.model_validate(given)
    places = {str(one["loc"][0]) if one["loc"] else "" for one in caught.value.errors()}
    assert places == {place}


def test_it_comes_back_from_redis_as_it_was() -> None:
    made = Callback.model_validate(
        {
            "url": S3,
            "kind": "put",
            "format": "srt",
            "events": ["completed", "failed"],
            "headers": {"x-amz-meta-a": "b"},
        }
    )
    assert callbacks.load(made.dump()) == made
    assert dict(callbacks.job_fields(made)) == {
        "callback": made.dump(),
        "callback_on": "completed failed",
        "callback_until_ms": int(AT + 600) * 1000,
    }
    assert orjson.loads(made.dump())["url"] == S3


def test_neither_its_text_nor_its_errors_show_a_secret() -> None:
    made = Callback.model_validate({"url": S3, "headers": {"authorization": "Bearer abcdef12345"}})
    assert "feed" not in repr(made)
    assert "abcdef" not in f"{made!r} {made}"
    assert made.shown == "https://bucket.example.com/a.json"
    assert {"feed", "AKIA/x", "AKIA%2Fx", "Bearer abcdef12345"} <= set(made.secrets())
    with pytest.raises(ValidationError) as caught:
        Callback.model_validate({"url": S3.replace("https", "gopher")})
    assert "feed" not in str(caught.value)


def test_the_result_of_a_presigned_url_is_json_unless_another_form_is_asked_for() -> None:
    assert Callback.presigned(S3).result_format == "json"
    assert Callback.presigned(S3, "vtt").result_format == "vtt"
    assert Callback(url=SecretStr(S3)).result_format is None
