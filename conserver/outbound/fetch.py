"""Downloads content from the URLs in vCons. Strangers wrote these URLs, so they are not trusted.

1. Only http:, https: and upload: URLs are fetched. upload: names a recording that the API has
   received (uploads.py), in the configured folder or bucket.
2. No connection goes to an address of this machine or its networks (loopback, link-local, private,
   reserved), unless an option allows it. See addresses.py.
3. Redirects are followed one by one, each under the same rules.
4. Size and time of the whole download are limited, not only those of each read.
5. If the vCon names a hash, content with another hash is refused.
6. If the environment names a proxy (storage.network), the connection goes through the proxy, which
   resolves the host name. The name is checked here as well, if it resolves here. If only the proxy
   can resolve it, the proxy has to decide.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import importlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from conserver.errors import Rejected, Retry
from conserver.outbound import addresses, faults, upload_store, uploads
from conserver.outbound.addresses import named, network_errors, target_of
from conserver.outbound.clients import Clients
from conserver.outbound.endpoint import Patience, retry_after_s
from conserver.telemetry import traces
from conserver.vcon.document import content_hashes, decode_body
from storage import network
from storage.network import NetworkSettingsError, Proxy, Trust

if TYPE_CHECKING:
    import httpcore

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Successful answers without the content: 202 (not ready yet), 204 and 205 (empty).
_WITHOUT_CONTENT = frozenset({202, 204, 205})
# Stand for all URLs when `prepare` checks proxies and certificates.
_ANY_URLS = ("http://recordings.invalid/", "https://recordings.invalid/")

_BLOCK_BYTES = 1 << 20
_MEMORY_BYTES_MAX = 16 << 20
"""Larger content is downloaded into a temporary file."""

POOLS: Clients[httpcore.ConnectionPool] = Clients()
"""The process's pools of connections, by certificates, proxy and allow_private_addresses."""


class FetchOptions(BaseModel):
    """The limits of a download. Links that fetch have these as the option `fetch`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: int = Field(default=268_435_456, gt=0)
    timeout_s: float = Field(default=120, gt=0)
    connect_timeout_s: float = Field(default=10, gt=0)
    read_timeout_s: float = Field(default=30, gt=0)
    max_redirects: int = Field(default=5, ge=0, le=20)
    allow_private_addresses: bool = False
    ca_file: str = ""


def prepare(ca_file: str = "") -> None:
    """Imports the HTTP library, and checks proxies and certificates.

    It opens no socket and starts no thread.

    Raises:
        NetworkSettingsError: a proxy or certificates cannot be used.
        ModuleNotFoundError: uploads are in a bucket, and boto3 is not installed.
    """
    upload_store.prepare()
    importlib.import_module("httpcore")
    network.check(_ANY_URLS, ca_file=ca_file, option="fetch.ca_file", socks_package="socksio")


def content(item: Mapping[str, Any], options: FetchOptions, patience: Patience) -> bytes | None:
    """The content of a dialog or attachment as bytes, inline or fetched; None if it has none.

    Raises:
        Retry: the server is in trouble or not reachable, or the content is not ready.
        FailedAttemptError: the server refuses the content (403, 404), or the content is empty or
            does not have the hash that the vCon names.
        Rejected: the URL may not be fetched, or the content is gone (410) or too large.
    """
    body = decode_body(dict(item))
    if isinstance(body, bytes):
        return body
    if isinstance(body, str) and body:
        return body.encode("utf-8", "surrogatepass")
    url = item.get("url")
    if not isinstance(url, str) or not url:
        return None
    return fetch(url, options, patience, content_hashes(dict(item)))


def fetch(
    url: str,
    options: FetchOptions,
    patience: Patience,
    hashes: Iterable[tuple[str, bytes]] = (),
) -> bytes:
    """Download `url` under the module's rules, and check all `hashes` (name, digest).

    Raises: as `content`.
    """
    with fetched(url, options, patience, hashes) as file:
        return file.read()


@contextmanager
def fetched(
    url: str,
    options: FetchOptions,
    patience: Patience,
    hashes: Iterable[tuple[str, bytes]] = (),
) -> Iterator[IO[bytes]]:
    """The same as `fetch`, as a file, so that large content is not in memory. The file is closed at
    the end of the `with`.

    Raises: as `content`; Retry also if the disk is full.
    """
    is_ours = url.startswith(uploads.SCHEME)
    with (_uploaded if is_ours else _downloaded)(url, options, patience) as file:
        if problem := _unlike(file, hashes):
            problem = f"GET {named(url)}: {problem}"
            raise Rejected(problem) if is_ours else faults.of_another_content(problem)
        file.seek(0)
        yield file


def _unlike(file: IO[bytes], hashes: Iterable[tuple[str, bytes]]) -> str:
    """Why the content is not what the vCon promises; "" if it is."""
    if not file.seek(0, os.SEEK_END):
        return "the content is empty (0 bytes)"
    for name, digest in hashes:
        file.seek(0)
        if _digest(file, name) != digest:
            return f"the content does not have its {name} hash"
    return ""


def _digest(file: IO[bytes], name: str) -> bytes:
    found = hashlib.new(name)
    while block := file.read(_BLOCK_BYTES):
        found.update(block)
    return found.digest()


@contextmanager
def _uploaded(url: str, options: FetchOptions, patience: Patience) -> Iterator[IO[bytes]]:
    """The content of an upload, which the API of this or another host has received."""
    name = url.removeprefix(uploads.SCHEME)
    if not uploads.is_id(name):
        raise Rejected("an upload is named by 32 hexadecimal digits")
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES_MAX) as file:
        try:
            with closing(upload_store.of_process().whole(name)) as pieces:
                for piece in pieces:
                    patience.check_cancelled()
                    file.write(piece)
                    if file.tell() > options.max_bytes:
                        break
        except OSError as error:
            raise Retry(
                None,
                f"the upload {name[:8]}... cannot be read: {error.strerror}; API and workers need"
                " the same CONSERVER_UPLOAD_DIR or CONSERVER_UPLOAD_BUCKET, and uploads expire"
                " after CONSERVER_UPLOAD_EXPIRY_S",
            ) from None
        if file.tell() > options.max_bytes:
            raise Rejected(f"the upload is larger than max_bytes ({options.max_bytes})")
        yield file


@contextmanager
def _downloaded(url: str, options: FetchOptions, patience: Patience) -> Iterator[IO[bytes]]:
    """The content of an http or https URL."""
    end = time.monotonic() + options.timeout_s
    left_s = patience.remaining_s()
    if left_s is not None:
        end = min(end, time.monotonic() + left_s)
    # No traceparent is sent, because the document names the server, which may be anybody's.
    attributes = {"http.request.method": "GET", "url.full": named(url)}
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES_MAX) as file:
        with (
            traces.span("GET", "client", attributes),
            answer_of(url, options, patience, end) as (response, headers),
        ):
            _read(response, url, headers, options, patience, end, file)
        yield file


@contextmanager
def answer_of(
    url: str,
    options: FetchOptions,
    patience: Patience,
    end: float,
    more: Sequence[tuple[bytes, bytes]] = (),
) -> Iterator[tuple[httpcore.Response, Mapping[str, str]]]:
    """The answer that has the content, after redirects. Read it within the `with`.

    Args:
        end: the time.monotonic() by which the answer's headers must arrive.
        more: additional headers of the request.

    Raises: as `content`. Errors of the HTTP library within the `with` are turned into Retry, too.
    """
    try:
        with _followed(url, options, patience, end, more) as found:
            yield found
    except NetworkSettingsError as error:
        raise Retry(None, f"GET {named(url)}: {error}") from None
    except network_errors() as error:
        said = network.failure(error, network.proxy_for(target_of(url)))
        raise Retry(None, f"GET {named(url)}: {said}") from None


@contextmanager
def _followed(
    url: str,
    options: FetchOptions,
    patience: Patience,
    end: float,
    more: Sequence[tuple[bytes, bytes]],
) -> Iterator[tuple[httpcore.Response, Mapping[str, str]]]:
    for _ in range(options.max_redirects + 1):
        patience.check_cancelled()
        target = target_of(url)
        proxy = network.proxy_for(target)
        with _connections(target, proxy, options).stream(
            "GET",
            target,
            headers=[*_headers(url), *more],
            extensions={"timeout": _timeouts(options, end)},
        ) as response:
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            if response.status in _REDIRECTS and "location" in headers:
                url = _joined(url, headers["location"])
                continue
            if 200 <= response.status < 300 and response.status not in _WITHOUT_CONTENT:
                yield response, headers
                return
            if str(response.status) == network.PROXY_LOGIN and proxy is not None:
                raise Retry(None, f"GET {named(url)}: {network.wants_login(proxy)}")
            fault = faults.of_content(response.status)
            problem = f"GET {named(url)}: HTTP {response.status}"
            raise faults.exception_for(fault, problem, retry_after_s(headers))
    raise faults.FailedAttemptError(
        f"GET {named(url)}: more than {options.max_redirects} redirects"
    )


def _read(
    response: httpcore.Response,
    url: str,
    headers: Mapping[str, str],
    options: FetchOptions,
    patience: Patience,
    end: float,
    file: IO[bytes],
) -> None:
    too_big = f"GET {named(url)}: larger than {options.max_bytes} bytes"
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > options.max_bytes:
        raise Rejected(too_big)
    count = 0
    next_look = time.monotonic() + 1
    for chunk in response.iter_stream():
        count += len(chunk)
        if count > options.max_bytes:
            raise Rejected(too_big)
        try:
            file.write(chunk)
        except OSError as error:
            problem = f"GET {named(url)}: no room in the folder of temporary files (TMPDIR)"
            raise Retry(None, f"{problem}: {error.strerror}") from None
        now = time.monotonic()
        if now > end:
            raise Retry(None, f"GET {named(url)}: not finished within its time")
        if now > next_look:
            patience.check_cancelled()
            next_look = now + 1


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise Rejected(f"GET {named(url)}: redirected to {location[:200]!r}: {error}") from None


def _headers(url: str) -> list[tuple[bytes, bytes]]:
    # Ask for uncompressed content, because max_bytes counts uncompressed bytes.
    headers = [(b"Accept", b"*/*"), (b"Accept-Encoding", b"identity")]
    parts = urlsplit(url)
    if parts.username is not None:
        account = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers.append((b"Authorization", b"Basic " + base64.b64encode(account)))
    return headers


def _timeouts(options: FetchOptions, end: float) -> dict[str, float]:
    left_s = max(end - time.monotonic(), 0.001)
    return {
        "connect": min(options.connect_timeout_s, left_s),
        "read": min(options.read_timeout_s, left_s),
        "write": min(options.read_timeout_s, left_s),
        "pool": left_s,
    }


def _connections(
    target: str, proxy: Proxy | None, options: FetchOptions
) -> httpcore.ConnectionPool:
    """The pool of connections for `target`. Raises Rejected if its address is private."""
    trusted = network.trust(options.ca_file, option="fetch.ca_file")
    if proxy is not None:
        if not options.allow_private_addresses:
            addresses.check_host(target)
        return POOLS.get((proxy, trusted), lambda: _proxy_pool(proxy, trusted))
    rules = (options.allow_private_addresses, trusted)
    return POOLS.get(rules, lambda: _pool(*rules))


def _proxy_pool(proxy: Proxy, trusted: Trust) -> httpcore.ConnectionPool:
    """Connections through a proxy."""
    import httpcore

    login = (proxy.username.encode(), proxy.password.encode()) if proxy.username else None
    common: dict[str, Any] = {
        "proxy_auth": login,
        "ssl_context": network.tls_context(trusted),
        "max_connections": 64,
        "max_keepalive_connections": 8,
        "keepalive_expiry": 15,
    }
    if proxy.is_socks:
        return httpcore.SOCKSProxy(f"socks5://{proxy.address}", **common)
    if proxy.scheme == "https":
        common["proxy_ssl_context"] = network.tls_context(network.trust())
    return httpcore.HTTPProxy(proxy.url, **common)


def _pool(allow_private: bool, trusted: Trust) -> httpcore.ConnectionPool:
    """A pool whose connections go to checked addresses only."""
    import httpcore

    class CheckedBackend(httpcore.SyncBackend):
        """Resolves names, checks the addresses, and connects to a checked address."""

        def connect_tcp(
            self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
        ) -> httpcore.NetworkStream:
            problem: Exception = httpcore.ConnectError(f"no address for {host}")
            for address in addresses.of_host(host, port, allow_private):
                try:
                    return super().connect_tcp(str(address), port, timeout, *args, **kwargs)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    problem = error
            raise problem

        def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
            raise Rejected("unix sockets are not fetched from")

    pool = httpcore.ConnectionPool(
        ssl_context=network.tls_context(trusted),
        network_backend=CheckedBackend(),
        max_connections=64,
        max_keepalive_connections=8,
        keepalive_expiry=15,
    )
    atexit.register(pool.close)
    return pool
