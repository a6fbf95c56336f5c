"""Signed requests to one bucket over kept-alive connections.

Writing an object through boto3 costs five times the CPU of the request itself, and its client 30 MB
and 0.3 s at every start. So only the credentials of a machine are boto3's business here (see
`discovered`). What a bucket needs beyond that is little: Signature Version 4 over the headers, the
payload's SHA-256 (which the server checks), and an HTTP/1.1 connection per busy thread.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import re
import ssl
import time
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

_SERVICE = "s3"
_CONNECT_TIMEOUT_S = 10.0
_ERROR_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_ERROR_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")
# A server may close an idle connection while the next request is under way to it.
_STALE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


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


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The error's name, such as NoSuchBucket, if the server gave one."""
        return _found(_ERROR_CODE, self.body)

    @property
    def reason(self) -> str:
        """The error for a person."""
        said = [self.code, _found(_ERROR_MESSAGE, self.body)]
        return ": ".join(filter(None, said)) or f"HTTP status {self.status}"


class Bucket:
    """One bucket. Every method may be called from several threads at once."""

    def __init__(
        self, url: str, region: str, credentials: Credentials, timeout_s: float, ca_file: str | None
    ) -> None:
        """`url` is the bucket's own: `https://bucket.host` or `https://host/bucket`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url}")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self.region = region
        self.credentials = credentials
        self._signer = _Signer(parts.netloc.rpartition("@")[2], region, credentials)
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context(cafile=ca_file) if self._secure else None
        self._proxy = _proxy(self._host) if self._secure else None
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._closed = False

    def request(
        self,
        method: str,
        key: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """Sends a request for an object (of the bucket itself, if `key` is empty).

        Ends by `deadline` (of time.monotonic), else after the bucket's timeout. Raises OSError or
        http.client.HTTPException for a broken connection.
        """
        path = f"{self._path}/{quote(key, safe='/~')}"
        signed = self._signer.sign(method, path, body, headers or {})
        if deadline is None:
            deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._exchange(self._connection(), method, path, body, signed, deadline)
            try:
                return self._exchange(connection, method, path, body, signed, deadline)
            except _STALE:
                # Every request here may be repeated, so it is, until a fresh connection has failed.
                continue

    def close(self) -> None:
        """Closes the connections; those in use close when their answer is read."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        deadline: float,
    ) -> Answer:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            connection.close()
            raise TimeoutError("no time left")
        try:
            if connection.sock is None:
                connection.timeout = min(left_s, _CONNECT_TIMEOUT_S)
                connection.connect()
            connection.sock.settimeout(left_s)
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException:
            connection.close()
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port)
        if self._proxy is None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._tls)
        proxy = urlsplit(self._proxy)
        connection = http.client.HTTPSConnection(
            proxy.hostname or "", proxy.port, context=self._tls
        )
        connection.set_tunnel(self._host, self._port)
        return connection


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


def _proxy(host: str) -> str | None:
    """The proxy that the environment names for HTTPS to this host."""
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get("https")


def _found(pattern: re.Pattern[bytes], text: bytes) -> str:
    match = pattern.search(text)
    return match[1].decode(errors="replace") if match else ""
