"""Calls HTTP endpoints that the operator configured: webhooks, language models.

1. There is one pooled client per combination of certificates, number of connections and proxy. It
   is made at the first call, never before a fork. storage.network reads proxy and certificates from
   the environment.
2. Connecting, reading and writing have time limits of their own. The link's soft limit shortens
   each.
3. If an endpoint is in trouble (408, 425, 429, 5xx, no connection), the call is repeated, after
   Retry-After if the endpoint sends it. A short wait happens here, in the chain thread. For a long
   one `post` raises Retry, and the item is parked. A 429 with Retry-After throttles the link for
   all workers.
4. If the proxy is away or refuses the login, the item is tried again, too.
5. For all other answers except 2xx, faults.py decides: only a fault of the content is final.

Answers are read up to a limit. Messages name the endpoint without credentials and query.
"""

from __future__ import annotations

import atexit
import email.utils
import importlib
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, Field

from conserver.errors import Retry
from conserver.outbound import faults
from conserver.outbound.clients import Clients
from conserver.process import backoff
from conserver.telemetry.traces import TRACES
from storage import network
from storage.network import NetworkSettingsError, Proxy, Trust

if TYPE_CHECKING:
    import httpx

_FIRST_WAIT_S = 0.33  # A quarter of a second on average, because jitter shortens it.
# For a longer wait the item is parked, so that the thread can run other items.
_LONGEST_WAIT_S = 5.0
_LONGEST_RETRY_AFTER_S = 86_400.0
_SLICE_S = 0.25
CLIENTS: Clients[httpx.Client] = Clients()
"""The process's clients, by certificates, number of connections and proxy."""
_EXCERPT_BYTES = 300
_UNPACKED_BYTES = 65_536
_TOO_MANY = 429


class Patience(Protocol):
    """The time limit and the cancellation of the calling link. A LinkContext is one."""

    def remaining_s(self) -> float | None:
        """Seconds left of the link's soft time limit; None without one."""

    def check_cancelled(self) -> None:
        """Raise if the link has to stop."""


class Caller(Patience, Protocol):
    """A Patience that can also throttle the calling link. A LinkContext is one."""

    def throttle(self, after_s: float) -> None:
        """Keep all workers from running the link for `after_s` seconds."""


class CallOptions(BaseModel):
    """The options of every link with an endpoint; the link's Options derive from them."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    connect_timeout_s: float = Field(default=5, gt=0)
    read_timeout_s: float = Field(default=30, gt=0)
    write_timeout_s: float = Field(default=30, gt=0)
    pool_timeout_s: float = Field(default=10, gt=0)
    attempts: int = Field(default=3, ge=1, le=10)
    max_connections: int = Field(default=32, ge=1)
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer: its status, headers (names in lower case) and whole content."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def prepare(urls: Iterable[str] = (), ca_file: str = "") -> None:
    """Imports the HTTP library, and checks the proxy and the certificates for the URLs.

    It opens no socket and starts no thread.

    Raises:
        NetworkSettingsError: a proxy or certificates cannot be used.
    """
    importlib.import_module("httpx")
    network.check(urls, ca_file=ca_file, option="ca_file", socks_package="socksio")


def post(
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    options: CallOptions,
    patience: Caller,
    max_answer_bytes: int = 65_536,
) -> Answer:
    """POSTs `content`, up to `options.attempts` times, and returns the 2xx answer.

    Raises:
        Retry: the endpoint or the proxy is in trouble, or the URL or the credentials are wrong. Its
            after_s is the wait that the endpoint asked for.
        Rejected: the endpoint says that the content is too large.
        FailedAttemptError: another answer (400, 422, ...), or one of over `max_answer_bytes`.
    """
    httpx = importlib.import_module("httpx")
    proxy = _proxy_for(url)
    for attempt in range(1, options.attempts + 1):
        patience.check_cancelled()
        asked_s: float | None = None
        try:
            answer = _send(url, proxy, content, headers, options, patience, max_answer_bytes)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise faults.exception_for("machine", f"POST {_named(url)}: {error}") from None
        except NetworkSettingsError as error:
            raise Retry(None, f"POST {_named(url)}: {error}") from None
        except httpx.TransportError as error:
            problem = f"POST {_named(url)}: {network.failure(error, proxy)}"
        else:
            if 200 <= answer.status < 300:
                return answer
            if str(answer.status) == network.PROXY_LOGIN and proxy is not None:
                raise Retry(None, f"POST {_named(url)}: {network.wants_login(proxy)}")
            excerpt = answer.content[:_EXCERPT_BYTES].decode("utf-8", "replace").strip()
            problem = f"POST {_named(url)}: HTTP {answer.status}: {excerpt or 'no text'}"
            asked_s = retry_after_s(answer.headers)
            if answer.status == _TOO_MANY and asked_s:
                patience.throttle(asked_s)
            if (fault := faults.of_endpoint(answer.status)) != "moment":
                raise faults.exception_for(fault, problem, asked_s)
        wait_s = asked_s
        if wait_s is None:
            wait_s = backoff.backoff_s(attempt, _FIRST_WAIT_S, _LONGEST_RETRY_AFTER_S)
        left_s = patience.remaining_s()
        too_long = wait_s > _LONGEST_WAIT_S or (left_s is not None and wait_s >= left_s)
        if attempt == options.attempts or too_long:
            raise Retry(asked_s, problem)
        pause(wait_s, patience)
    raise AssertionError("the last attempt returns or raises")


def pause(seconds: float, patience: Patience) -> None:
    """Wait, in slices, so that the wait ends if the item is cancelled or the worker stops."""
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        patience.check_cancelled()
        time.sleep(min(_SLICE_S, left_s))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait in seconds that an answer's Retry-After asks for; None without one."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * unit_s
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if seconds == seconds:  # Not NaN.
            return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
    return None


def _proxy_for(url: str) -> Proxy | None:
    """The proxy for a URL. Raises Retry for a fault of the environment, which no item caused."""
    try:
        return network.proxy_for(url)
    except NetworkSettingsError as error:
        raise Retry(None, f"POST {_named(url)}: {error}") from None
    except ValueError as error:
        raise faults.exception_for("machine", f"POST {_named(url)}: not a URL: {error}") from None


def _send(
    url: str,
    proxy: Proxy | None,
    content: bytes,
    headers: Mapping[str, str],
    options: CallOptions,
    patience: Patience,
    max_answer_bytes: int,
) -> Answer:
    """Calls _post_once. If traces are on: inside a span, whose `traceparent` is sent along."""
    otel = TRACES.otel
    if otel is None:
        return _post_once(url, proxy, content, headers, options, patience, max_answer_bytes)
    attributes = {"http.request.method": "POST", "url.full": _named(url)}
    with otel.span("POST", "client", attributes=attributes) as span:
        headers = {**otel.carrier(), **headers}
        answer = _post_once(url, proxy, content, headers, options, patience, max_answer_bytes)
        span.set_attribute("http.response.status_code", answer.status)
        if answer.status >= 400:
            span.set_attribute("error.type", str(answer.status))
        return answer


def _post_once(
    url: str,
    proxy: Proxy | None,
    content: bytes,
    headers: Mapping[str, str],
    options: CallOptions,
    patience: Patience,
    max_answer_bytes: int,
) -> Answer:
    left_s = patience.remaining_s()
    if left_s is not None and left_s <= 0:
        raise Retry(None, f"POST {_named(url)}: the link's time was used up before it")
    httpx = importlib.import_module("httpx")

    def limit(seconds: float) -> float:
        return seconds if left_s is None else min(seconds, left_s)

    timeout = httpx.Timeout(
        connect=limit(options.connect_timeout_s),
        read=limit(options.read_timeout_s),
        write=limit(options.write_timeout_s),
        pool=limit(options.pool_timeout_s),
    )
    end = time.monotonic() + limit(options.read_timeout_s)
    trusted = network.trust(options.ca_file, option="ca_file")
    limits = (trusted, options.max_connections, proxy)
    client = CLIENTS.get(limits, lambda: _client(*limits))
    # Ask for an uncompressed answer, because max_answer_bytes counts uncompressed bytes.
    headers = {"accept-encoding": "identity", **headers}
    request = client.build_request("POST", url, content=content, headers=headers, timeout=timeout)
    response = client.send(request, stream=True)
    try:
        body = b""
        for chunk in unpacked(response.iter_raw(), response.headers.get("content-encoding", "")):
            body += chunk
            if len(body) > max_answer_bytes:
                if response.is_success:
                    problem = f"POST {_named(url)}: answer of over {max_answer_bytes} bytes"
                    raise faults.FailedAttemptError(problem)
                break
            # A time limit per read does not stop an answer that trickles for hours.
            if time.monotonic() > end:
                raise httpx.ReadTimeout("the answer took too long", request=request)
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, lowered, body)
    except zlib.error as error:
        raise faults.FailedAttemptError(f"POST {_named(url)}: its answer: {error}") from None
    finally:
        response.close()


def unpacked(pieces: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """The uncompressed content of an answer in small pieces. Some servers compress unasked, and 64
    KiB of compressed data may hold many MiB.

    coding: the answer's Content-Encoding. Only gzip and deflate are decoded.

    Raises:
        zlib.error: the content is not in that coding.
    """
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        yield from pieces
        return
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # It detects the header of either coding.
    for piece in pieces:
        left = piece
        while left:
            yield decoder.decompress(left, _UNPACKED_BYTES)
            left = decoder.unconsumed_tail


def _client(trusted: Trust, max_connections: int, proxy: Proxy | None) -> httpx.Client:
    import httpx

    through = None
    if proxy is not None:
        # With httpx's scheme "socks5", too, the proxy resolves the host names.
        scheme = "socks5" if proxy.is_socks else proxy.scheme
        login = (proxy.username, proxy.password) if proxy.username else None
        tls = network.tls_context(network.trust()) if scheme == "https" else None
        through = httpx.Proxy(f"{scheme}://{proxy.address}", ssl_context=tls, auth=login)
    limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=8)
    client = httpx.Client(
        verify=network.tls_context(trusted),
        limits=limits,
        follow_redirects=False,
        proxy=through,
        trust_env=False,  # storage.network has read the environment.
    )
    atexit.register(client.close)
    return client


def _named(url: str) -> str:
    """The URL without user, password, query and fragment, which may be secrets, for messages."""
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0].partition("#")[0]
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
