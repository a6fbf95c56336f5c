"""Uploads in a bucket: every replica of the API and every worker sees the same ones.

    <prefix>/<id>          the content
    <prefix>/<id>.json     what is known of it, as in a folder; with the ETag of the content

What comes through the API is gathered in the folder first, so that neither a large recording nor
many at once are held in memory; then the content is written, and then what is known of it. What a
caller sends by a presigned URL is there without the second: `adopt` writes it, once it has looked
at size and hash. Only the configured endpoint is asked, never one that a caller names.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from conserver.outbound.uploads import (
    READ_BYTES,
    FileWriter,
    Offer,
    Pieces,
    StoreError,
    Upload,
    Uploads,
    base_name,
    is_id,
    media_type,
)
from conserver.telemetry import log
from storage import network

_AWS_URL = "https://s3.amazonaws.com"
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_PLAIN = ("application/octet-stream", "binary/octet-stream")
"""What stands for no media type: ours, and S3's."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which bucket. endpoint_url: its S3, "" for what boto3 finds. public_url: the same S3 as
    callers reach it, "" where that is the same.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    public_url: str = ""

    def key(self, upload_id: str) -> str:
        """The key of a content. Raises ValueError for what is no id."""
        if not is_id(upload_id):
            raise ValueError("an upload's id has 32 hexadecimal digits")
        return f"{self.prefix}/{upload_id}" if self.prefix else upload_id


class BucketUploads:
    """The bucket: a Store. Connections are made when they are first needed."""

    def __init__(self, place: Place, spool: Uploads) -> None:
        """spool: the folder for what is on its way."""
        self.place, self._spool = place, spool
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def begin(self, upload_id: str) -> BucketWriter:
        """Take an upload. Raises OSError: the folder cannot be written."""
        return BucketWriter(self, self._spool, upload_id)

    def find(self, upload_id: str) -> Upload | None:
        """A complete upload; None if there is none of that id."""
        found = self._note(upload_id) if is_id(upload_id) else None
        return found and found[0]

    def presigned(self, upload_id: str, offer: Offer) -> str:
        """A URL that takes the content by PUT; of another size than the announced one it does not.

        Temporary credentials end it earlier than `offer.until`.
        """
        target = self._target(upload_id)
        if offer.bytes:
            target["ContentLength"] = offer.bytes
        left_s = max(int(offer.until - time.time()), 1)
        with self._faults():
            client = self._client(self.place.public_url or self.place.endpoint_url)
            return str(client.generate_presigned_url("put_object", target, ExpiresIn=left_s))

    def adopt(self, upload_id: str, offer: Offer, most_bytes: int) -> Upload | None:
        """A complete upload, also one whose content came by a presigned URL and was not seen yet.

        Raises:
            ValueError: its content is larger than that; it was removed.
        """
        with suppress(FileNotFoundError), self._faults():
            head = self._client().head_object(**self._target(upload_id))
            if head["ContentLength"] > most_bytes:
                self.remove(upload_id)
                raise ValueError(f"the upload is larger than {most_bytes} bytes")
            note = self._note(upload_id)
            if note and note[1] == head["ETag"]:
                return note[0]
            return self._adopted(upload_id, offer, head["ETag"], head.get("ContentType", ""))
        return None

    def _adopted(self, upload_id: str, offer: Offer, etag: str, sent_type: str) -> Upload:
        sha512, size = hashlib.sha512(), 0
        # Under the condition, so that size and hash are of one content.
        with closing(self._pieces(upload_id, IfMatch=etag)) as pieces:
            for piece in pieces:
                sha512.update(piece)
                size += len(piece)
        kinds = map(media_type, (sent_type, offer.mediatype))
        named = [kind for kind in kinds if kind not in _PLAIN]
        made = Upload(
            upload_id,
            named[0] if named else _PLAIN[0],
            base_name(offer.filename),
            size,
            sha512.hexdigest(),
            round(time.time(), 3),
            offer.by,
        )
        self._keep_note(made, etag)
        return made

    def read(self, upload_id: str, most_bytes: int) -> bytes:
        """The content, at most so much of it. Raises OSError."""
        found = bytearray()
        with closing(self._pieces(upload_id)) as pieces:
            while len(found) < most_bytes and (piece := next(pieces, b"")):
                found += piece
        return bytes(found[:most_bytes])

    def pieces(self, upload_id: str, first: int, last: int) -> Pieces:
        """The content from the byte `first` to `last`, both included. Raises OSError at once."""
        if last < first:
            return Pieces(bytes, lambda: None)
        return self._pieces(upload_id, Range=f"bytes={first}-{last}")

    def whole(self, upload_id: str) -> Pieces:
        """All of the content. Raises OSError at once."""
        return self._pieces(upload_id)

    def _pieces(self, upload_id: str, **conditions: str) -> Pieces:
        with self._faults():
            body = self._client().get_object(**self._target(upload_id), **conditions)["Body"]

        def read() -> bytes:
            with self._faults():
                return bytes(body.read(READ_BYTES))

        return Pieces(read, body.close)

    def remove(self, upload_id: str) -> None:
        """Forget it; harmless if there is none."""
        if is_id(upload_id):
            self._delete([self.place.key(upload_id), f"{self.place.key(upload_id)}.json"])

    def sweep(self, keep_s: float) -> int:
        """Remove what is older, also what is left in the folder. Returns how many files went."""
        removed = self._spool.sweep(keep_s)
        oldest = datetime.now(UTC) - timedelta(seconds=keep_s)
        prefix = f"{self.place.prefix}/" if self.place.prefix else ""
        with self._faults():
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.place.bucket, Prefix=prefix):
                old = [
                    entry["Key"]
                    for entry in page.get("Contents", ())
                    if entry["LastModified"] < oldest
                    and is_id(entry["Key"].removeprefix(prefix).removesuffix(".json"))
                ]
                self._delete(old)
                removed += len(old)
        return removed

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""
        with self._lock:
            while self._clients:
                self._clients.popitem()[1].close()

    def take(self, made: Upload) -> None:
        """Write a complete upload of the folder into the bucket. Raises OSError."""
        config = importlib.import_module("boto3.s3.transfer").TransferConfig(use_threads=False)
        path = str(self._spool.path(made.id))
        target = self._target(made.id)
        with self._faults():
            client = self._client()
            more = {"ContentType": made.mediatype}
            client.upload_file(path, **target, ExtraArgs=more, Config=config)
            self._keep_note(made, client.head_object(**target)["ETag"])

    def _note(self, upload_id: str) -> tuple[Upload, str] | None:
        """What is known of an upload, and the ETag of the content it is known of."""
        target = {"Bucket": self.place.bucket, "Key": f"{self.place.key(upload_id)}.json"}
        try:
            with self._faults():
                body = self._client().get_object(**target)["Body"]
                with body:
                    members = orjson.loads(body.read())
            etag = members.pop("etag", "")
            return Upload(**members), etag
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None

    def _keep_note(self, made: Upload, etag: str) -> None:
        text = orjson.dumps({**asdict(made), "etag": etag})
        key = f"{self.place.key(made.id)}.json"
        with self._faults():
            self._client().put_object(
                Bucket=self.place.bucket, Key=key, Body=text, ContentType="application/json"
            )

    def _delete(self, keys: list[str]) -> None:
        """One by one: not every S3 deletes several by one request."""
        with self._faults():
            for key in keys:
                self._client().delete_object(Bucket=self.place.bucket, Key=key)

    def _target(self, upload_id: str) -> dict[str, Any]:
        return {"Bucket": self.place.bucket, "Key": self.place.key(upload_id)}

    def _client(self, url: str | None = None) -> Any:
        """The client for a URL of the endpoint, made when it is first needed."""
        url = self.place.endpoint_url if url is None else url
        with self._lock:
            if url not in self._clients:
                self._clients[url] = _connect(url)
            return self._clients[url]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Errors of boto3 as OSErrors. Raises FileNotFoundError and StoreError."""
        boto3 = importlib.import_module("boto3.exceptions")
        botocore = importlib.import_module("botocore.exceptions")
        try:
            yield
        except botocore.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _ABSENT:
                raise FileNotFoundError(errno.ENOENT, "it is not in the bucket") from None
            raise self._told(error, f"the bucket of uploads refuses ({code})") from None
        except (botocore.BotoCoreError, boto3.Boto3Error, network.NetworkSettingsError) as error:
            raise self._told(error, "the bucket of uploads cannot be used now") from None

    def _told(self, error: Exception, text: str) -> StoreError:
        """Where it is and why it fails is for the log alone."""
        log.get_logger().warning(
            "upload_bucket_failed", bucket=self.place.bucket, error=f"{error}"[:500]
        )
        return StoreError(errno.EIO, text)


class BucketWriter:
    """An upload that arrives: in the folder until it is complete."""

    def __init__(self, store: BucketUploads, spool: Uploads, upload_id: str) -> None:
        self._store, self._spool, self._id = store, spool, upload_id
        self._file: FileWriter = spool.begin(upload_id)

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError: the disk is full."""
        self._file.write(data)

    def finish(self, mediatype: str, filename: str, by: str) -> Upload:
        """Make it complete: write it into the bucket. Raises OSError."""
        made = self._file.finish(mediatype, filename, by)
        try:
            self._store.take(made)
        finally:
            self._spool.remove(self._id)
        return made

    def abandon(self) -> None:
        """Leave nothing of it. Harmless after `finish`."""
        self._file.abandon()


def _connect(endpoint_url: str) -> Any:
    session = importlib.import_module("boto3.session").Session()
    config = importlib.import_module("botocore.config").Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"total_max_attempts": 3, "mode": "standard"},
        max_pool_connections=32,
        # By default AWS signs presigned URLs in the old way, and adds checksums to them that
        # callers would have to send, and that other makes of S3 do not know.
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # `virtual`, or AWS's URLs are presigned for its global endpoint, which redirects.
        s3={"addressing_style": "path" if endpoint_url else "virtual"},
        proxies=network.botocore_proxies(endpoint_url or _AWS_URL),
    )
    region = session.region_name or ("us-east-1" if endpoint_url else None)
    return session.client(
        "s3", endpoint_url=endpoint_url or None, region_name=region, config=config
    )
