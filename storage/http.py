"""Requests to one web server over kept-alive connections, one per thread that is busy with one.

This is what storages need of HTTP and no more: any client library costs a multiple of the request
itself, and its import more than all of ours.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
import time
import urllib.request
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from storage.http_exchange import Answer, exchange

__all__ = ["BROKEN", "Answer", "Server"]

# What a request raises when the connection failed.
BROKEN = (OSError, http.client.HTTPException)

_CONNECT_TIMEOUT_S = 10.0
_ENCODING_DER = 2  # _ssl.ENCODING_DER
# A server may close an idle connection while the next request is under way to it.
_STALE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class Server:
    """One web server. Every method may be called from several threads at once."""

    def __init__(
        self, url: str, ca_file: str | None = None, fingerprint: str | None = None
    ) -> None:
        """`url`: only its scheme, host and port matter. Raises ValueError if it has none.

        `fingerprint`: the SHA-256 of a certificate in the server's chain, in hexadecimal. Only it
        is asked for then, and neither names nor signatures.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {parts.scheme}://{parts.hostname}")
        self.name = parts.netloc.rpartition("@")[2]
        self._host, self._port = parts.hostname, parts.port
        secure = parts.scheme == "https"
        self._tls = _context(ca_file, fingerprint) if secure else None
        self._fingerprint = (fingerprint or "").replace(":", "").lower() if secure else ""
        self._proxy = _proxy(self._host) if secure else None
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._closed = False

    def request(
        self, method: str, path: str, body: bytes, headers: dict[str, str], deadline: float
    ) -> Answer:
        """Sends a request, which must be one that may be repeated, and reads the answer.

        Ends by `deadline` (of time.monotonic). Raises one of BROKEN for a broken connection.
        """
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._exchange(self._connection(), method, path, body, headers, deadline)
            try:
                return self._exchange(connection, method, path, body, headers, deadline)
            except _STALE:
                # So it is repeated, until a fresh connection has failed.
                continue

    def connect(self, timeout_s: float) -> None:
        """Opens a connection and keeps it for a request. Raises one of BROKEN."""
        connection = self._connection()
        self._connect(connection, timeout_s)
        self._idle.append(connection)

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
        try:
            if connection.sock is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("no time left")
                self._connect(connection, min(left_s, _CONNECT_TIMEOUT_S))
            # A header of this name in another case is the caller's mistake: all of ours are lower.
            named = headers if "host" in headers else {"host": self.name, **headers}
            answer, again = exchange(connection.sock, method, path, named, body, deadline)
        except BaseException:
            connection.close()
            raise
        if self._closed or not again:
            connection.close()
        if not self._closed:
            self._idle.append(connection)
        return answer

    def _connect(self, connection: http.client.HTTPConnection, timeout_s: float) -> None:
        connection.timeout = timeout_s
        try:
            connection.connect()
        except TimeoutError as error:
            # Told apart from an answer that does not come: nothing has been asked yet.
            raise ConnectionError(f"{self.name} did not connect in {timeout_s:g} s") from error
        wire = connection.sock
        if not isinstance(wire, ssl.SSLSocket) or not self._fingerprint:
            return
        if self._fingerprint not in _fingerprints(wire):
            connection.close()
            raise ssl.SSLCertVerificationError(
                f"no certificate of {self.name} has the fingerprint {self._fingerprint}"
            )

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


def _context(ca_file: str | None, fingerprint: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if fingerprint is not None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _fingerprints(wire: ssl.SSLSocket) -> set[str]:
    """The SHA-256 of every certificate that the server has shown."""
    shown = [wire.getpeercert(binary_form=True) or b""]
    # Since Python 3.13 the chain has a public method; before, it is the same one level below.
    chain: Any = wire
    if not hasattr(wire, "get_unverified_chain"):
        chain = wire._sslobj  # type: ignore[attr-defined]
    shown += [_der(certificate) for certificate in chain.get_unverified_chain() or ()]
    return {hashlib.sha256(certificate).hexdigest() for certificate in shown}


def _der(certificate: Any) -> bytes:
    """A certificate in its binary form: bytes, or the ssl module's own class."""
    if isinstance(certificate, bytes):
        return certificate
    return bytes(certificate.public_bytes(_ENCODING_DER))


def _proxy(host: str) -> str | None:
    """The proxy that the environment names for HTTPS to this host."""
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get("https")
