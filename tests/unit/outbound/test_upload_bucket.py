"""Presigned URLs as AWS wants them: there is no AWS here, and none is asked to sign one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest

from conserver.outbound.upload_bucket import BucketUploads
from conserver.outbound.upload_store import configured
from conserver.outbound.uploads import Offer, StoreError, new_id


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketUploads]:
    """A bucket of AWS, in Frankfurt."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    made = configured("./uploads", "recordings/in")
    assert isinstance(made, BucketUploads)
    with closing(made):
        yield made


def test_a_presigned_url_of_aws_names_the_region_and_signs_the_size(bucket: BucketUploads) -> None:
    upload_id, until = new_id(), time.time() + 600
    url = urlsplit(bucket.presigned(upload_id, Offer("ann", until, bytes=480_044)))
    assert url.netloc == "recordings.s3.eu-central-1.amazonaws.com"
    assert url.path == f"/in/{upload_id}"
    query = parse_qs(url.query)
    assert query["X-Amz-SignedHeaders"] == ["content-length;host"]
    assert 590 <= int(query["X-Amz-Expires"][0]) <= 600
    assert not [name for name in query if "checksum" in name.lower()]


def test_without_a_size_only_the_place_is_signed(bucket: BucketUploads) -> None:
    url = urlsplit(bucket.presigned(new_id(), Offer("ann", time.time() + 600)))
    assert parse_qs(url.query)["X-Amz-SignedHeaders"] == ["host"]


def test_what_is_no_id_has_no_place(bucket: BucketUploads) -> None:
    assert bucket.find("../secrets") is None
    bucket.remove("../secrets")
    with pytest.raises(ValueError, match="32 hexadecimal"):
        bucket.presigned("../secrets", Offer("ann", time.time() + 600))


def test_without_keys_it_says_that_it_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    store = configured("./uploads", "recordings", "http://127.0.0.1:1")
    with closing(store), pytest.raises(StoreError, match="cannot be used now"):
        store.presigned(new_id(), Offer("ann", time.time() + 600))
