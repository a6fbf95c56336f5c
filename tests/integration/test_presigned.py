"""Results for presigned URLs of a real S3 (versitygw): taken, expired, refused, cut on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import orjson
import pytest
from botocore.config import Config

from conserver.errors import Rejected, Retry
from conserver.outbound.callback import Callback
from tests.clients import S3Access
from tests.helpers import TcpProxy, eventually
from tests.unit.links.test_notify import document, event, notify_once

Presign = Callable[..., str]
KEY = "results/call 1.json"


@pytest.fixture
def client(s3: S3Access, s3_bucket: str) -> Iterator[Any]:
    """A boto3 client that signs as S3 wants it today, with the test's bucket made."""
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    made = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id=s3.key,
        aws_secret_access_key=s3.secret,
        region_name=s3.region,
        config=config,
    )
    with closing(made):
        made.create_bucket(Bucket=s3_bucket)
        yield made


@pytest.fixture
def presign(client: Any, s3_bucket: str) -> Presign:
    """Makes a presigned URL for KEY, as a caller does with its own library."""

    def make(expires_s: int = 600, **more: Any) -> str:
        given = {"Bucket": s3_bucket, "Key": KEY, **more}
        return str(client.generate_presigned_url("put_object", Params=given, ExpiresIn=expires_s))

    return make


def test_the_result_lies_in_the_bucket(presign: Presign, client: Any, s3_bucket: str) -> None:
    notify_once({"url": presign(), "kind": "put", "format": "vcon"})
    found = client.get_object(Bucket=s3_bucket, Key=KEY)
    assert found["Body"].read() == document()
    assert found["ContentType"] == "application/json"


def test_so_does_an_error(presign: Presign, client: Any, s3_bucket: str) -> None:
    notify_once({"url": presign(), "kind": "put"}, event("failed", reason="failed", error="boom"))
    found = orjson.loads(client.get_object(Bucket=s3_bucket, Key=KEY)["Body"].read())
    assert (found["status"], found["error"]["message"]) == ("failed", "boom")


def test_a_large_result_is_whole(presign: Presign, client: Any, s3_bucket: str) -> None:
    large = document(more="x" * 12_000_000)
    notify_once({"url": presign(), "kind": "put", "format": "vcon"}, text=large)
    assert client.head_object(Bucket=s3_bucket, Key=KEY)["ContentLength"] == len(large)


def test_headers_that_were_signed_are_sent(presign: Presign, client: Any, s3_bucket: str) -> None:
    url = presign(ContentType="text/plain", Metadata={"ticket": "7"})
    headers = {"Content-Type": "text/plain", "x-amz-meta-ticket": "7"}
    notify_once({"url": url, "kind": "put", "format": "text", "headers": headers})
    found = client.head_object(Bucket=s3_bucket, Key=KEY)
    assert (found["ContentType"], found["Metadata"]) == ("text/plain", {"ticket": "7"})


def test_what_a_callback_reads_of_it_is_what_the_caller_gave(presign: Presign) -> None:
    callback = Callback.presigned(presign(expires_s=1234))
    assert callback.expires_at == pytest.approx(time.time() + 1234, abs=60)


def test_one_that_was_changed_is_refused_for_good(presign: Presign) -> None:
    url = presign().replace("results", "elsewhere")
    with pytest.raises(Rejected, match=r"/elsewhere/call%201.json: HTTP 403: ") as caught:
        notify_once({"url": url, "kind": "put"})
    for _, _, value in (part.partition("=") for part in urlsplit(url).query.split("&")):
        assert len(value) < 6 or value not in str(caught.value)


def test_one_that_has_expired_says_so(presign: Presign) -> None:
    url = presign(expires_s=1)
    eventually(lambda: time.time() > (Callback.presigned(url).expires_at or 0) + 1)
    with pytest.raises(Rejected, match="expired"):
        notify_once({"url": url, "kind": "put"})
    # S3 itself says so, too, to whoever does not read it out of the URL.
    answer = httpx.put(url, content=b"x", timeout=60)
    assert answer.status_code == 403


def test_a_connection_that_is_cut_is_tried_again(
    s3: S3Access, presign: Presign, client: Any, s3_bucket: str
) -> None:
    """And leaves no half of an object."""
    url, port = presign(), urlsplit(s3.endpoint).port
    assert port is not None
    with TcpProxy(port) as proxy:
        near = url.replace(f":{port}/", f":{proxy.port}/")
        proxy.cut_before(b"transcript", times=9)
        with pytest.raises(Retry):
            notify_once({"url": near, "kind": "put", "format": "vcon"})
    with pytest.raises(client.exceptions.ClientError, match="404"):
        client.head_object(Bucket=s3_bucket, Key=KEY)
    notify_once({"url": url, "kind": "put", "format": "vcon"})
