"""Connections of httpcore for one request: to a checked address, and with one deadline.

httpcore's time limits hold for each read, and for each part of a write that the kernel takes. So a
peer that takes or sends one byte a minute would hold the thread for hours. Here each read and write
ends by the deadline of the whole request. The address of a proxy is not checked, because the
operator configured the proxy.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpcore

from conserver.outbound import addresses


class Deadline:
    """The moment by which a request has to be over."""

    def __init__(self, total_s: float, check_cancelled: Callable[[], None]) -> None:
        self._total_s = total_s
        self._end_s = time.monotonic() + total_s
        self._check_cancelled = check_cancelled

    def left(self, timeout: float | None) -> float:
        """Seconds that the next step may take. Raises httpcore.TimeoutException after the end."""
        self._check_cancelled()
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise httpcore.TimeoutException(f"not finished within {self._total_s:g} s")
        return left_s if timeout is None else min(timeout, left_s)


class BoundedStream(httpcore.NetworkStream):
    """A connection whose reads and writes end by the deadline."""

    def __init__(
        self, inner: httpcore.NetworkStream, deadline: Deadline, *, nested: bool = False
    ) -> None:
        """nested: TLS inside the TLS of an https proxy. Only `inner` can write to such a one."""
        self._inner = inner
        self._deadline = deadline
        self._nested = nested

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads at most `max_bytes`; returns as soon as any bytes have arrived."""
        return self._inner.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes all bytes of `buffer`."""
        sock = self._inner.get_extra_info("socket")
        if self._nested or not isinstance(sock, socket.socket):
            self._inner.write(buffer, self._deadline.left(timeout))
            return
        view = memoryview(buffer)
        try:
            while view:
                sock.settimeout(self._deadline.left(timeout))
                view = view[sock.send(view) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Starts TLS on this connection, and returns the connection over TLS."""
        left_s = self._deadline.left(timeout)
        nested = isinstance(self._inner.get_extra_info("socket"), ssl.SSLSocket)
        inner = self._inner.start_tls(ssl_context, server_hostname, left_s)
        return BoundedStream(inner, self._deadline, nested=nested)

    def get_extra_info(self, info: str) -> Any:
        """See httpcore.NetworkStream."""
        return self._inner.get_extra_info(info)


class BoundedBackend(httpcore.SyncBackend):
    """Resolves names, checks the addresses, and connects to a checked address."""

    def __init__(
        self,
        total_s: float,
        check_cancelled: Callable[[], None],
        allow_private: bool,
        remedy: str,
    ) -> None:
        """remedy: the advice in the error for a private address."""
        self._deadline = Deadline(total_s, check_cancelled)
        self._allow_private = allow_private
        self._remedy = remedy

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.NetworkStream:
        """Connects to the first address of the host that answers. Raises Rejected if all are
        private."""
        problem: Exception = httpcore.ConnectError(f"no address for {host}")
        for address in addresses.of_host(host, port, self._allow_private, remedy=self._remedy):
            left_s = self._deadline.left(timeout)
            try:
                made = super().connect_tcp(str(address), port, left_s, *args, **kwargs)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
            else:
                return BoundedStream(made, self._deadline)
        raise problem

    def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        """Refuses: URLs of callbacks never lead to a unix socket."""
        raise httpcore.ConnectError("no unix sockets")
