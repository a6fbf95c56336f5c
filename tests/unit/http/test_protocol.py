"""How long a client may hold a connection: each is closed by a timer, whatever the client has sent.

The server is uvicorn's, with short limits, and an application that answers before it has read.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from conserver.http.protocol import BoundedProtocol
from tests.helpers import LONG_S, eventually

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
BODY = b"0123456789"


class Protocol(BoundedProtocol):
    """With limits that a test can wait for."""

    head_s = 0.5
    rest_s = 0.5


async def answers_at_once(_scope: Any, _receive: Any, send: Any) -> None:
    head = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 401, "headers": head})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def served(keep_alive_s: int) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            answers_at_once,
            http=Protocol,
            lifespan="off",
            log_config=None,
            timeout_keep_alive=keep_alive_s,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            eventually(lambda: server.started)
            yield listener.getsockname()
        finally:
            server.should_exit = True
            thread.join(LONG_S)
            assert not thread.is_alive()


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with served(keep_alive_s=1) as address:
        yield address


def closed_after(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Send the pieces, each after an answer to the first, and wait until the server has closed."""
    with socket.create_connection(address, timeout=LONG_S) as connection:
        connection.sendall(pieces[0])
        told = connection.recv(65_536)
        try:
            for piece in pieces[1:]:
                connection.sendall(piece)
            while more := connection.recv(65_536):
                told += more
        except ConnectionError:
            pass
        return told


@pytest.mark.parametrize(
    "behind",
    [
        (),
        (BODY[:5],),
        (BODY,),
        (BODY + b"GET / HTTP/1.1\r\nHo",),
        (BODY, b"GET / HTTP/1.1\r\nHo"),
    ],
    ids=["nothing", "half the rest", "the rest", "rest and half a head", "rest, half a head"],
)
def test_a_request_that_was_answered_early_holds_no_connection(
    address: tuple[str, int], behind: tuple[bytes, ...]
) -> None:
    assert closed_after(address, HEAD, *behind).startswith(b"HTTP/1.1 401 ")


def test_bytes_now_and_then_hold_no_connection(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=LONG_S) as connection:
        head = HEAD.replace(b"10", b"100000")
        connection.sendall(head)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")
        connection.settimeout(0.05)

        def refused() -> bool:
            try:
                connection.sendall(b"a")
                return connection.recv(65_536) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually(refused)


def test_a_connection_goes_on_behind_an_early_answer() -> None:
    with served(60) as address, socket.create_connection(address, timeout=LONG_S) as connection:
        for _ in range(3):
            connection.sendall(HEAD)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")
            connection.sendall(BODY)


def test_a_head_that_stalls_is_told_so(address: tuple[str, int]) -> None:
    began_s = time.monotonic()
    with socket.create_connection(address, timeout=LONG_S) as connection:
        connection.sendall(HEAD[:20])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began_s >= Protocol.head_s
