"""Signs requests to one bucket and sends them.

boto3 takes many times the CPU of the request itself, and every vCon is one or two requests. So
botocore only finds the endpoint and the credentials (storage.s3_session). This module signs the
requests (Signature Version 4) and sends them.
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

from storage.exchange import lean
from storage.http import Answer, Server
from storage.network import tls_context, trust

# The variable that AWS's tools read first.
CA_VARIABLE = "AWS_CA_BUNDLE"

_ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_ERROR_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")


@dataclass(frozen=True, slots=True)
class Key:
    """An access key; with a `token` if it is a temporary one."""

    access_key: str
    secret_key: str
    token: str | None = None


class Credentials(Protocol):
    """Returns the access key. It is called for every request, because a key may be renewed."""

    def __call__(self) -> Key:
        """The key to sign with now."""


@dataclass(frozen=True, slots=True)
class Place:
    """The URL of a bucket, and the region, service and credentials for its signatures.

    Attributes:
        url: `https://bucket.host` or `https://host/bucket`.
        ca_file: a file or folder with the certificates to trust, instead of the environment's.
    """

    url: str
    region: str
    credentials: Credentials
    service: str = "s3"
    ca_file: str | None = None


class Bucket:
    """One bucket. Every method may be called from several threads at once."""

    def __init__(self, place: Place, timeout_s: float) -> None:
        self.place = place
        # Whether a request has the header x-amz-checksum-sha256, which some endpoints refuse.
        self.has_checksums = True
        tls = None
        if place.url.startswith("https:"):
            tls = tls_context(trust(place.ca_file, [CA_VARIABLE]))
        self._server = Server(place.url, tls, lean)
        self._path = urlsplit(place.url).path.rstrip("/")
        self._signer = _Signer(self._server.name, place)
        self._timeout_s = timeout_s

    def request(
        self,
        method: str,
        key: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """Sends a request for an object; for the bucket itself if `key` is empty.

        Ends by `deadline` (of time.monotonic), else after the bucket's timeout. Raises one of
        storage.http.BROKEN for a broken connection.
        """
        path = f"{self._path}/{quote(key, safe='/~')}"
        signed = self._signer.sign(method, path, body, headers or {}, self.has_checksums)
        if deadline is None:
            deadline = time.monotonic() + self._timeout_s
        return self._server.request(method, path, body, signed, deadline)

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()


class _Signer:
    """AWS Signature Version 4, for requests without a query string."""

    def __init__(self, host: str, place: Place) -> None:
        self._host = host
        self._region = place.region
        self._service = place.service
        self._credentials = place.credentials
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def sign(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], checksum: bool
    ) -> dict[str, str]:
        """The headers to send, including the signature. All headers are signed."""
        key = self._credentials()
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = hashlib.sha256(body)
        signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        signed["host"] = self._host
        signed["x-amz-date"] = now
        signed["x-amz-content-sha256"] = digest.hexdigest()
        if body and checksum:
            # A bucket with object lock requires the digest in this header, too.
            signed["x-amz-checksum-sha256"] = base64.b64encode(digest.digest()).decode()
        if method == "PUT":
            signed["content-length"] = str(len(body))
        if key.token:
            signed["x-amz-security-token"] = key.token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        request = f"{method}\n{path}\n\n{lines}\n{listed}\n{digest.hexdigest()}"
        scope = f"{now[:8]}/{self._region}/{self._service}/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}"
        signature = hmac.digest(self._key_of(now[:8], key.secret_key), text.encode(), "sha256")
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope},"
            f" SignedHeaders={listed}, Signature={signature.hex()}"
        )
        return signed

    def _key_of(self, day: str, secret_key: str) -> bytes:
        """The signing key of a day. The latest one is kept."""
        if self._derived[:2] != (day, secret_key):
            derived = f"AWS4{secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                derived = hmac.digest(derived, part.encode(), "sha256")
            # One assignment, so that another thread never reads half of it.
            self._derived = (day, secret_key, derived)
            return derived
        return self._derived[2]


def error_code(answer: Answer) -> str:
    """The error's name, such as NoSuchBucket, if the server gave one."""
    return _found(_ERROR_CODE, answer.body)


def reason(answer: Answer) -> str:
    """The error as text for people."""
    said = [error_code(answer), _found(_ERROR_MESSAGE, answer.body)]
    return ": ".join(filter(None, said)) or f"HTTP status {answer.status}"


def _found(pattern: re.Pattern[bytes], text: bytes) -> str:
    match = pattern.search(text)
    return match[1].decode(errors="replace") if match else ""
