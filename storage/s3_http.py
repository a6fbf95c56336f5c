"""Signed requests to one bucket.

Writing an object through boto3 costs five times the CPU of the request itself, and its client 30 MB
and 0.3 s at every start. So only the credentials of a machine are boto3's business here (see
`discovered`). What a bucket needs beyond that is little: Signature Version 4 over the headers, and
the payload's SHA-256, which the server checks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

from storage.http import Answer, Server

_SERVICE = "s3"
_ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_ERROR_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")


@dataclass(frozen=True, slots=True)
class Key:
    """An access key; `token` where it is a temporary one."""

    access_key: str
    secret_key: str
    token: str | None = None


class Credentials(Protocol):
    """Where the access key comes from, asked for every request: it may be renewed meanwhile."""

    def __call__(self) -> Key:
        """The key to sign with now."""


class Bucket:
    """One bucket. Every method may be called from several threads at once."""

    def __init__(
        self, url: str, region: str, credentials: Credentials, timeout_s: float, ca_file: str | None
    ) -> None:
        """`url` is the bucket's own: `https://bucket.host` or `https://host/bucket`."""
        self.region = region
        self.credentials = credentials
        self._server = Server(url, ca_file)
        self._path = urlsplit(url).path.rstrip("/")
        self._signer = _Signer(self._server.name, region, credentials)
        self._timeout_s = timeout_s

    def request(
        self,
        method: str,
        key: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """Sends a request for an object (of the bucket itself, if `key` is empty).

        Ends by `deadline` (of time.monotonic), else after the bucket's timeout. Raises one of
        storage.http.BROKEN for a broken connection.
        """
        path = f"{self._path}/{quote(key, safe='/~')}"
        signed = self._signer.sign(method, path, body, headers or {})
        if deadline is None:
            deadline = time.monotonic() + self._timeout_s
        return self._server.request(method, path, body, signed, deadline)

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()


class _Signer:
    """AWS Signature Version 4, for requests without a query string."""

    def __init__(self, host: str, region: str, credentials: Credentials) -> None:
        self._host = host
        self._region = region
        self._credentials = credentials
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def sign(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> dict[str, str]:
        """The headers to send, the signature among them. All of them are signed."""
        key = self._credentials()
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = hashlib.sha256(body)
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        signed["host"] = self._host
        signed["x-amz-date"] = now
        signed["x-amz-content-sha256"] = digest.hexdigest()
        if body:
            # The same digest once more: a bucket with object lock asks for a checksum by name.
            signed["x-amz-checksum-sha256"] = base64.b64encode(digest.digest()).decode()
        if method == "PUT":
            signed["content-length"] = str(len(body))
        if key.token:
            signed["x-amz-security-token"] = key.token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        request = f"{method}\n{path}\n\n{lines}\n{listed}\n{digest.hexdigest()}"
        scope = f"{now[:8]}/{self._region}/{_SERVICE}/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}"
        signature = hmac.digest(self._key_of(now[:8], key.secret_key), text.encode(), "sha256")
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope},"
            f" SignedHeaders={listed}, Signature={signature.hex()}"
        )
        return signed

    def _key_of(self, day: str, secret_key: str) -> bytes:
        """The signing key of a day, which is worth keeping."""
        if self._derived[:2] != (day, secret_key):
            derived = f"AWS4{secret_key}".encode()
            for part in (day, self._region, _SERVICE, "aws4_request"):
                derived = hmac.digest(derived, part.encode(), "sha256")
            # One assignment, so that no other thread finds half of it.
            self._derived = (day, secret_key, derived)
            return derived
        return self._derived[2]


def bucket_url(bucket: str, region: str, endpoint_url: str | None) -> str:
    """The bucket's own URL: under the given endpoint, else at AWS.

    A bucket with a dot in its name has no valid certificate as a host name.
    """
    if endpoint_url is not None:
        return f"{endpoint_url.rstrip('/')}/{bucket}"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket:
        return f"https://s3.{region}.{suffix}/{bucket}"
    return f"https://{bucket}.s3.{region}.{suffix}"


def discovered(session: object) -> Credentials:
    """The credentials that boto3's usual chain finds: environment, files, container, instance.

    `session` is a botocore session. Temporary keys are renewed by botocore when they are due.
    Raises PermissionError if there are none.
    """
    found = session.get_credentials()  # type: ignore[attr-defined]
    if found is None:
        raise PermissionError("no AWS credentials in the options, environment, files or instance")

    def current() -> Key:
        frozen = found.get_frozen_credentials()
        return Key(frozen.access_key, frozen.secret_key, frozen.token)

    return current


def error_code(answer: Answer) -> str:
    """The error's name, such as NoSuchBucket, if the server gave one."""
    return _found(_ERROR_CODE, answer.body)


def reason(answer: Answer) -> str:
    """The error for a person."""
    said = [error_code(answer), _found(_ERROR_MESSAGE, answer.body)]
    return ": ".join(filter(None, said)) or f"HTTP status {answer.status}"


def _found(pattern: re.Pattern[bytes], text: bytes) -> str:
    match = pattern.search(text)
    return match[1].decode(errors="replace") if match else ""
