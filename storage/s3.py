"""Stores a vCon as an object with its original bytes, at any endpoint that speaks S3.

A vCon is at `[s3_path/]YYYY/MM/DD/<uuid>.vcon`, by its created_at (without one: at
`[s3_path/]<uuid>.vcon`). The object `[s3_path/]lookup/<uuid>.txt` contains the folder, so that a
vCon is found by its uuid alone. vcon-server uses the same names. The object's metadata hold the
revision; an object without one counts as older than any revision.

S3 has no bulk write, so each document is a request, and a bounded pool of threads sends them. Each
write is conditional: the object must have the ETag of the document's last write, if the caller has
it; else there must be no such object. If the condition fails, the storage reads the revision of the
existing object and decides. `open` finds out whether the endpoint ignores conditions. If it does,
the storage reads the revision before each write; two writers at the same moment can then overwrite
each other.

If the options do not name key, region or endpoint, botocore finds them at `open`, as it does for
boto3 (storage.s3_session).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence

from pydantic import AnyHttpUrl, Field, SecretStr, field_validator, model_validator

from storage import network
from storage.contract import (
    Document,
    Outcome,
    Rejected,
    StorageOptions,
    Stored,
    Unavailable,
    servers_in,
)
from storage.fields import date_folder, is_safe_name
from storage.http import BROKEN, Answer
from storage.pool import Pool
from storage.s3_http import (
    CA_VARIABLE,
    Bucket,
    Credentials,
    Key,
    Place,
    error_code,
    reason,
)

log = logging.getLogger("storage.s3")

_REVISION = "x-amz-meta-revision"
_REGION = "x-amz-bucket-region"
_PROBE_NAME = "conserver-probe"
_ABSENT = {"if-none-match": "*"}
_NO_SUCH_ETAG = '"conserver-no-such-etag"'
# Stands for the revision of an object that has none: lower than any revision.
_NO_REVISION = -1
# How often a write is tried if other writers change the object in between.
_CONTEST_LIMIT = 5
_REFUSES_THE_DOCUMENT = ("EntityTooLarge", "KeyTooLongError", "MaxMessageLengthExceeded")
_CHANGED_MEANWHILE = (409, 412)
# Answers to an unknown header; to a signed one also "the signature does not match" (403).
_REFUSES_A_HEADER = (400, 403, 501)


class Options(StorageOptions):
    """Which bucket, where, and how to sign."""

    aws_bucket: str = Field(
        min_length=3, description="Name of the bucket, or ARN of an access point. It must be there."
    )
    aws_access_key_id: str | None = Field(
        default=None, description="Access key. Without one it is looked for as boto3 does."
    )
    aws_secret_access_key: SecretStr | None = Field(default=None, description="Its secret.")
    aws_session_token: SecretStr | None = Field(
        default=None, description="Its session token, where the key is a temporary one."
    )
    aws_profile: str | None = Field(
        default=None, description="Profile of AWS's configuration files to use."
    )
    aws_region: str | None = Field(
        default=None,
        description="Region of the bucket. Without one it is looked for as boto3 does.",
    )
    endpoint_url: str | None = Field(
        default=None,
        description="URL of an S3 that is not AWS, such as http://s3:7070. Without one it is looked"
        " for as boto3 does.",
    )
    s3_path: str = Field(default="", description="Prefix of every key.")
    concurrency: int = Field(
        default=8, ge=1, le=64, description="How many requests are under way at the same time."
    )
    ca_certs: str | None = Field(
        default=None,
        description="File or folder with the certificates to trust, instead of the environment's.",
    )
    object_headers: dict[str, str] = Field(
        default_factory=dict,
        description="Further headers for every vCon, such as x-amz-storage-class or "
        "x-amz-server-side-encryption.",
    )

    @model_validator(mode="after")
    def _key_is_whole(self) -> Options:
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ValueError("aws_access_key_id and aws_secret_access_key belong together")
        if self.aws_access_key_id is not None and self.aws_profile is not None:
            raise ValueError("aws_profile and aws_access_key_id exclude each other")
        return self

    @field_validator("endpoint_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None:
            AnyHttpUrl(value)
        return value

    @property
    def credentials(self) -> Credentials | None:
        """The access key of the options; None if they name none."""
        if self.aws_access_key_id is None:
            return None
        secret, token = self.aws_secret_access_key, self.aws_session_token
        key = Key(
            self.aws_access_key_id,
            secret.get_secret_value() if secret else "",
            token.get_secret_value() if token else None,
        )
        return lambda: key

    @property
    def leave_open(self) -> bool:
        """Whether botocore has to find the key, the region or the endpoint."""
        given = (self.aws_access_key_id, self.aws_region, self.endpoint_url)
        return None in given or self.aws_bucket.startswith("arn:")

    def place(self, region: str, credentials: Credentials, ca_file: str | None) -> Place:
        """The Place of the bucket at the option `endpoint_url`."""
        url = f"{(self.endpoint_url or '').rstrip('/')}/{self.aws_bucket}"
        return Place(url, region, credentials, ca_file=ca_file)


def prepare(options: Options) -> None:
    """Imports botocore before a fork if it is needed, and checks proxies and certificates."""
    if options.leave_open:
        importlib.import_module("storage.s3_session")
    host = "s3" if options.aws_bucket.startswith("arn:") else f"{options.aws_bucket}.s3"
    network.check(
        [options.endpoint_url or f"https://{host}.amazonaws.com"],
        ca_file=options.ca_certs,
        variables=[CA_VARIABLE],
    )


class Storage:
    """A bucket."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        server = servers_in(options.endpoint_url) if options.endpoint_url else "s3:"
        self.place = f"{server}/{options.aws_bucket}"
        self._options = options
        self._prefix = options.s3_path.strip("/") + "/" if options.s3_path.strip("/") else ""
        self._headers = {"content-type": "application/vcon", **options.object_headers}
        self._bucket: Bucket | None = None
        self._pool: Pool | None = None
        self._conditional = True

    def open(self) -> None:
        """Finds the bucket and its region, and whether the endpoint honours conditional writes."""
        self.close()
        options = self._options
        bucket = Bucket(_place(options), options.timeout_s)
        try:
            bucket = self._in_its_region(bucket)
            self._probe(bucket)
        except BaseException:
            bucket.close()
            raise
        self._bucket = bucket
        self._pool = Pool(self.name, options.concurrency, BROKEN)

    def close(self) -> None:
        """Closes the connections."""
        if self._bucket is not None:
            self._bucket.close()
            self._bucket = None
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Writes the objects, several at a time."""
        if self._pool is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._pool.run(documents, self._save, self._options.timeout_s)

    def get(self, uuid: str) -> bytes | None:
        """Returns the object's bytes."""
        folder = self._folder(uuid)
        if folder is None:
            return None
        answer = self._opened().request("GET", self._key(folder, uuid))
        return _content(answer)

    def delete(self, uuid: str) -> bool:
        """Deletes the object, then its lookup object."""
        folder = self._folder(uuid)
        if folder is None:
            return False
        for key in (self._key(folder, uuid), self._lookup_key(uuid)):
            answer = self._opened().request("DELETE", key)
            if not answer.ok and answer.status != 404:
                raise ConnectionError(reason(answer))
        return True

    def ready(self) -> None:
        """Writes the probe object."""
        answer = self._opened().request("PUT", self._prefix + _PROBE_NAME, b"-")
        if not answer.ok:
            raise ConnectionError(reason(answer))

    def _opened(self) -> Bucket:
        if self._bucket is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._bucket

    def _in_its_region(self, bucket: Bucket) -> Bucket:
        """The bucket in its true region, which the answer to a HEAD request names."""
        answer = bucket.request("HEAD", "")
        if answer.status == 404:
            raise FileNotFoundError(f"there is no bucket {self._options.aws_bucket}")
        region = answer.headers.get(_REGION, bucket.place.region)
        if region == bucket.place.region:
            return bucket
        bucket.close()
        return Bucket(_place(self._options, region), self._options.timeout_s)

    def _probe(self, bucket: Bucket) -> None:
        """Finds out whether the endpoint takes checksums and honours conditions.

        It writes the object `conserver-probe`, which stays, because other workers use it, too.
        """
        key = self._prefix + _PROBE_NAME
        answer = bucket.request("PUT", key, b"-")
        if not answer.ok:
            bucket.has_checksums = answer.status not in _REFUSES_A_HEADER
            if bucket.has_checksums or not bucket.request("PUT", key, b"-").ok:
                said = f"cannot write to {self._options.aws_bucket}: {reason(answer)}"
                raise PermissionError(said) if answer.status == 403 else ConnectionError(said)
            log.warning(
                "storage %s: the endpoint refuses x-amz-checksum-sha256 (%s): objects are written"
                " without it",
                self.name,
                reason(answer),
            )
        self._conditional = all(
            bucket.request("PUT", key, b"-", condition).status in _CHANGED_MEANWHILE
            for condition in (_ABSENT, {"if-match": _NO_SUCH_ETAG})
        )
        if not self._conditional:
            log.warning(
                "storage %s: the endpoint ignores conditional writes, so that of two writers of"
                " one vCon at the same moment the older can win",
                self.name,
            )

    def _key(self, folder: str, uuid: str) -> str:
        return f"{self._prefix}{folder}/{uuid}.vcon" if folder else f"{self._prefix}{uuid}.vcon"

    def _lookup_key(self, uuid: str) -> str:
        return f"{self._prefix}lookup/{uuid}.txt"

    def _folder(self, uuid: str) -> str | None:
        """The folder of a vCon, by its lookup object; None without one."""
        if not is_safe_name(uuid):
            return None
        content = _content(self._opened().request("GET", self._lookup_key(uuid)))
        return None if content is None else content.decode().strip()

    def _save(self, document: Document, deadline: float) -> Outcome:
        if not is_safe_name(document.uuid):
            return Rejected("the uuid cannot be part of an object's key")
        try:
            folder = date_folder(document.data)
        except ValueError as error:
            return Rejected(f"not a JSON object: {error}")
        key = self._key(folder, document.uuid)
        headers = {**self._headers, _REVISION: str(document.revision)}
        condition = {"if-match": document.etag} if document.etag else _ABSENT
        must_look = not self._conditional
        for _ in range(_CONTEST_LIMIT):
            if must_look:
                found = self._look(key, document.revision, deadline)
                if isinstance(found, Stored) and not found.superseded:
                    return self._file(document, folder, found, deadline)
                if not isinstance(found, dict):
                    return found
                condition = found
            sent = headers | condition if self._conditional else headers
            answer = self._opened().request("PUT", key, document.body, sent, deadline)
            if answer.ok:
                stored = Stored(_etag(answer))
                if not must_look and document.etag:
                    # The write that returned this ETag has made the lookup object.
                    return stored
                return self._file(document, folder, stored, deadline, new=condition is _ABSENT)
            if answer.status not in _CHANGED_MEANWHILE and error_code(answer) != "NoSuchKey":
                return _refusal(answer)
            must_look = True
        return Unavailable("other writers keep changing the object")

    def _look(self, key: str, revision: int, deadline: float) -> dict[str, str] | Outcome:
        """Reads the existing object's revision. Returns the condition for the next write, or the
        outcome if no write is needed.
        """
        kept = self._opened().request("HEAD", key, deadline=deadline)
        if kept.status == 404:
            return _ABSENT
        if not kept.ok:
            return _refusal(kept)
        if _revision(kept) >= revision:
            superseded = _revision(kept) > revision
            return Stored(None if superseded else _etag(kept), superseded)
        return {"if-match": _etag(kept) or _NO_SUCH_ETAG}

    def _file(
        self, document: Document, folder: str, stored: Stored, deadline: float, new: bool = False
    ) -> Outcome:
        """Writes the folder into the lookup object, unless it is there. `new`: the vCon is new, so
        probably has no lookup object.
        """
        key = self._lookup_key(document.uuid)
        bucket = self._opened()
        if new and self._conditional:
            answer = bucket.request("PUT", key, folder.encode(), _ABSENT, deadline)
            if answer.status not in _CHANGED_MEANWHILE:
                return stored if answer.ok else _refusal(answer)
        condition = _ABSENT
        kept = bucket.request("GET", key, deadline=deadline)
        if kept.ok:
            other = kept.body.decode(errors="replace").strip()
            if other == folder:
                return stored
            # The vCon's created_at has changed, which should not happen. The newer revision wins.
            there = bucket.request("HEAD", self._key(other, document.uuid), deadline=deadline)
            if there.ok and _revision(there) > document.revision:
                return Stored(superseded=True)
            condition = {"if-match": _etag(kept) or _NO_SUCH_ETAG}
            log.warning("vCon %s moves from %s to %s", document.uuid, other, folder)
        elif kept.status != 404:
            return _refusal(kept)
        headers = condition if self._conditional else {}
        answer = bucket.request("PUT", key, folder.encode(), headers, deadline)
        return stored if answer.ok else _refusal(answer)


def _place(options: Options, region: str | None = None) -> Place:
    """The Place of the bucket. `region` overrides the region of the options."""
    credentials, known = options.credentials, region or options.aws_region
    if options.leave_open or credentials is None or known is None:
        from storage.s3_session import resolved

        return resolved(options, region)
    return options.place(known, credentials, options.ca_certs)


def _content(answer: Answer) -> bytes | None:
    if answer.status == 404:
        return None
    if not answer.ok:
        raise ConnectionError(reason(answer))
    return answer.body


def _etag(answer: Answer) -> str | None:
    return answer.headers.get("etag")


def _revision(answer: Answer) -> int:
    try:
        return int(answer.headers.get(_REVISION, _NO_REVISION))
    except ValueError:
        return _NO_REVISION


def _refusal(answer: Answer) -> Outcome:
    if answer.status == 413 or error_code(answer) in _REFUSES_THE_DOCUMENT:
        return Rejected(reason(answer))
    return Unavailable(reason(answer), answer.retry_after_s)
