"""Keeps uploads in a bucket, so that every replica of the API and every worker sees the same ones.

    <prefix>/<id>          the content
    <prefix>/<id>.json     the note: media type, size, hash and so on, as in a folder; and the
                           ETag of the content

An upload through the API is written to the folder first, so that no recording is held in memory.
When it is complete, the content and then the note are written to the bucket. After an upload by a
presigned URL there is only the content: `adopt` computes size and hash and writes the note.
Requests go to the configured endpoint only, never to one that a caller names.
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
"""Media types that mean "unknown": the API's default, and S3's."""


@dataclass(frozen=True, slots=True)
class Place:
    """The bucket, and a prefix of its keys.

    Attributes:
        endpoint_url: the URL of the S3 server; "": boto3 finds it.
        public_url: the URL of the same server for callers; "": the same as endpoint_url.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    public_url: str = ""

    def key(self, upload_id: str) -> str:
        """The key of an upload's content. Raises ValueError if `upload_id` cannot be an id."""
        if not is_id(upload_id):
            raise ValueError("an upload's id has 32 hexadecimal digits")
        return f"{self.prefix}/{upload_id}" if self.prefix else upload_id


class BucketUploads:
    """A Store (uploads.py) in a bucket. Connections are made when they are first needed."""

    def __init__(self, place: Place, spool: Uploads) -> None:
        """spool: the folder for uploads that are still arriving."""
        self.place, self._spool = place, spool
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def begin(self, upload_id: str) -> BucketWriter:
        """Begin to receive an upload. Raises OSError if the folder cannot be written."""
        return BucketWriter(self, self._spool, upload_id)

    def find(self, upload_id: str) -> Upload | None:
        """A complete upload; None if there is none of that id."""
        found = self._note(upload_id) if is_id(upload_id) else None
        return found and found[0]

    def presigned(self, upload_id: str, offer: Offer) -> str:
        """A URL that accepts the content by PUT, only in the announced size.

        If the credentials are temporary, the URL may expire before `offer.until`.
        """
        target = self._target(upload_id)
        if offer.bytes:
            target["ContentLength"] = offer.bytes
        left_s = max(int(offer.until - time.time()), 1)
        with self._faults():
            client = self._client(self.place.public_url or self.place.endpoint_url)
            return str(client.generate_presigned_url("put_object", target, ExpiresIn=left_s))

    def adopt(self, upload_id: str, offer: Offer, most_bytes: int) -> Upload | None:
        """The complete upload; None if there is none. If the content came by a presigned URL and
        has no note yet, this computes its size and hash and writes the note.

        Raises:
            ValueError: the content is larger than `most_bytes`. It was removed.
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
        # IfMatch, so that size and hash belong to the same content.
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
        """The first `most_bytes` of the content. Raises OSError."""
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
        """Remove the upload, if there is one."""
        if is_id(upload_id):
            self._delete([self.place.key(upload_id), f"{self.place.key(upload_id)}.json"])

    def sweep(self, keep_s: float) -> int:
        """Remove uploads older than `keep_s` from bucket and folder. Returns how many files."""
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
        """Copy a complete upload from the folder to the bucket. Raises OSError."""
        config = importlib.import_module("boto3.s3.transfer").TransferConfig(use_threads=False)
        path = str(self._spool.path(made.id))
        target = self._target(made.id)
        with self._faults():
            client = self._client()
            more = {"ContentType": made.mediatype}
            client.upload_file(path, **target, ExtraArgs=more, Config=config)
            self._keep_note(made, client.head_object(**target)["ETag"])

    def _note(self, upload_id: str) -> tuple[Upload, str] | None:
        """The note of an upload, and the ETag of the content that the note is about."""
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
        """Delete keys one by one, because not every S3 server can delete several by one request."""
        with self._faults():
            for key in keys:
                self._client().delete_object(Bucket=self.place.bucket, Key=key)

    def _target(self, upload_id: str) -> dict[str, Any]:
        return {"Bucket": self.place.bucket, "Key": self.place.key(upload_id)}

    def _client(self, url: str | None = None) -> Any:
        """The client for an endpoint URL, made when it is first needed."""
        url = self.place.endpoint_url if url is None else url
        with self._lock:
            if url not in self._clients:
                self._clients[url] = _connect(url)
            return self._clients[url]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turns errors of boto3 into OSErrors. Raises FileNotFoundError and StoreError."""
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
        """Logs the bucket and the error, which callers must not see. Returns the error for them."""
        log.get_logger().warning(
            "upload_bucket_failed", bucket=self.place.bucket, error=f"{error}"[:500]
        )
        return StoreError(errno.EIO, text)


class BucketWriter:
    """An upload that is arriving. Its bytes are in the folder until it is complete."""

    def __init__(self, store: BucketUploads, spool: Uploads, upload_id: str) -> None:
        self._store, self._spool, self._id = store, spool, upload_id
        self._file: FileWriter = spool.begin(upload_id)

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError if the disk is full."""
        self._file.write(data)

    def finish(self, mediatype: str, filename: str, by: str) -> Upload:
        """Complete the upload: write it to the bucket. Raises OSError."""
        made = self._file.finish(mediatype, filename, by)
        try:
            self._store.take(made)
        finally:
            self._spool.remove(self._id)
        return made

    def abandon(self) -> None:
        """Remove the incomplete upload. Does nothing after `finish`."""
        self._file.abandon()


def _connect(endpoint_url: str) -> Any:
    session = importlib.import_module("boto3.session").Session()
    config = importlib.import_module("botocore.config").Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"total_max_attempts": 3, "mode": "standard"},
        max_pool_connections=32,
        # By default boto3 presigns URLs with the old signature. It also requires checksums, which
        # callers would have to send and other S3 servers do not know.
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Without `virtual`, URLs of AWS are presigned for its global endpoint, which redirects.
        s3={"addressing_style": "path" if endpoint_url else "virtual"},
        proxies=network.botocore_proxies(endpoint_url or _AWS_URL),
    )
    region = session.region_name or ("us-east-1" if endpoint_url else None)
    return session.client(
        "s3", endpoint_url=endpoint_url or None, region_name=region, config=config
    )
