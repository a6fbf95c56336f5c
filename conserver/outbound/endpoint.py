"""Calls endpoints that the operator configured over HTTP: webhooks, language models.

1. One pooled client per set of limits, certificates and proxy, made at the first call: never before
   a fork. The proxy and the certificates are those that storage.network reads from the environment.
2. Every part of a call has a time limit, and the link's own soft limit bounds them all.
3. An endpoint in trouble (408, 425, 429, 5xx, no connection) is asked again, after Retry-After if
   it says so. Short waits happen here; for long ones the item is parked (`Retry`), so that no
   thread sits and waits. A 429 with Retry-After throttles the link for all workers.
4. A proxy that is away, or wants another login, is not the item's fault either: it is tried again.
5. faults.py decides about all other answers that are not 2xx: final only if the content is at
   fault.

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

_FIRST_WAIT_S = 0.33  # less jitter: a quarter of a second on average
# A longer wait than this is worth parking the item: the thread has other work.
_LONGEST_WAIT_S = 5.0
_LONGEST_RETRY_AFTER_S = 86_400.0
_SLICE_S = 0.25
CLIENTS: Clients[httpx.Client] = Clients()
"""The process's clients, by certificates, number of connections and proxy."""
_EXCERPT_BYTES = 300
_UNPACKED_BYTES = 65_536
_TOO_MANY = 429


class Patience(Protocol):
    """What a call needs to know of the link that makes it; a LinkContext is one."""

    def remaining_s(self) -> float | None:
        """Seconds left of the link's soft time limit; None without one."""

    def check_cancelled(self) -> None:
        """Raise if the link has to stop."""


class Caller(Patience, Protocol):
    """Who calls an endpoint that all items of a link have in common; a LinkContext is one."""

    def throttle(self, after_s: float) -> None:
        """The endpoint wants no calls for so long, from anybody."""


class CallOptions(BaseModel):
    """The options that every link with an endpoint has; its own Options extend these."""

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
    """Imports the HTTP library and checks the way to these URLs; no sockets, no threads.

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
    """POSTs `content` until the endpoint takes it, and gives its 2xx answer.

    Raises:
        Retry: it (or the proxy) is in trouble, after as many seconds as it asked for; or its URL or
            credentials are wrong.
        Rejected: it does not accept this content.
        FailedAttemptError: it answered more than `max_answer_bytes`.
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
    """Wait in slices, so that a cancelled item or a stopping worker ends the wait."""
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        patience.check_cancelled()
        time.sleep(min(_SLICE_S, left_s))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What a server asks for: seconds, milliseconds or a date; None if it does not say."""
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
    """The proxy on the way. A fault of the environment is not the item's: it is tried again."""
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
    """_post_once; where traces are on, inside a span whose `traceparent` the endpoint is sent."""
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
    # The limit of an answer is meant for what it holds.
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
    """The content of an answer in small pieces, also where it comes compressed without being asked:
    64 KiB may hold many MiB.

    coding: its Content-Encoding. Another one than gzip and deflate stays as it is.

    Raises:
        zlib.error: it is not what it says.
    """
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        yield from pieces
        return
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # Both have a head that says which it is.
    for piece in pieces:
        left = piece
        while left:
            yield decoder.decompress(left, _UNPACKED_BYTES)
            left = decoder.unconsumed_tail


def _client(trusted: Trust, max_connections: int, proxy: Proxy | None) -> httpx.Client:
    import httpx

    through = None
    if proxy is not None:
        # Names are looked up by the proxy either way, as httpx has it.
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
        trust_env=False,  # It is read in one place, for all clients.
    )
    atexit.register(client.close)
    return client


def _named(url: str) -> str:
    """The URL for a message: without user, password, query and fragment, which may be secrets."""
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0].partition("#")[0]
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
