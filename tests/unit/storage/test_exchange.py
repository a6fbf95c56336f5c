"""storage.exchange: requests as they go out, answers in every framing that HTTP/1.1 has."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead

import pytest

from storage.exchange import exchange
from storage.http import Answer
from tests.helpers import eventually

Wires = tuple[socket.socket, socket.socket]


@pytest.fixture
def wires() -> Iterator[Wires]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def asked(
    wires: Wires, answer: bytes, method: str = "GET", body: bytes = b"", close: bool = False
) -> tuple[Answer, bool]:
    """What exchange makes of these bytes, sent in small pieces."""
    ours, theirs = wires

    def serve() -> None:
        with contextlib.suppress(BrokenPipeError):  # enough was read to see that it is no HTTP
            for start in range(0, len(answer), 7):
                theirs.sendall(answer[start : start + 7])
            if close:
                theirs.shutdown(socket.SHUT_WR)

    server = threading.Thread(target=serve)
    server.start()
    try:
        return exchange(ours, method, "/a", {"host": "h"}, body, time.monotonic() + 60)
    finally:
        ours.shutdown(socket.SHUT_RD)
        server.join()


def test_a_request_is_one_packet(wires: Wires) -> None:
    asked(wires, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "PUT", b"body")
    sent = wires[1].recv(1000)
    assert sent == b"PUT /a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody"


def test_an_empty_body_has_its_length_where_one_is_expected(wires: Wires) -> None:
    asked(wires, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "PUT")
    assert b"content-length: 0" in wires[1].recv(1000)


def test_a_large_body_arrives_whole(wires: Wires) -> None:
    ours, theirs = wires
    body = b"x" * 1_000_000
    received = bytearray()

    def serve() -> None:
        while not received.endswith(b"x" * 9) or len(received) < len(body):
            received.extend(theirs.recv(100_000))
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = threading.Thread(target=serve)
    server.start()
    answer, again = exchange(ours, "PUT", "/a", {"host": "h"}, body, time.monotonic() + 60)
    server.join()
    assert answer.ok
    assert again
    assert bytes(received).endswith(b"\r\n\r\n" + body)


def test_an_answer_by_its_length(wires: Wires) -> None:
    head = b'HTTP/1.1 201 Created\r\nETag: "e"\r\nX-Two:  a \r\nx-two: b\r\nContent-Length: 5'
    answer, again = asked(wires, head + b"\r\n\r\nhello")
    assert answer == Answer(201, {"etag": '"e"', "x-two": "a, b", "content-length": "5"}, b"hello")
    assert again


def test_an_answer_in_chunks(wires: Wires) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer, again = asked(wires, head + b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: t\r\n\r\n")
    assert answer.body == b"hello!"
    assert again


def test_an_answer_that_ends_with_the_connection(wires: Wires) -> None:
    answer, again = asked(wires, b"HTTP/1.1 200 OK\r\n\r\nhello", close=True)
    assert answer.body == b"hello"
    assert not again


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints\r\nLink: x"]
)
def test_what_comes_before_the_answer_is_passed_over(wires: Wires, first: bytes) -> None:
    answer, _ = asked(wires, first + b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert answer.body == b"ok"


@pytest.mark.parametrize(("method", "status"), [("HEAD", b"200 OK"), ("GET", b"204 No Content")])
def test_some_answers_have_no_body_whatever_they_say(
    wires: Wires, method: str, status: bytes
) -> None:
    head = b"HTTP/1.1 %b\r\nContent-Length: 100\r\n\r\n" % status
    answer, again = asked(wires, head, method)
    assert answer.body == b""
    assert again


@pytest.mark.parametrize(
    ("line", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
    ],
)
def test_whether_the_connection_lasts(wires: Wires, line: bytes, again: bool) -> None:
    assert asked(wires, line + b"\r\nContent-Length: 0\r\n\r\n")[1] is again


def test_a_connection_closed_without_a_word_is_told_apart(wires: Wires) -> None:
    with pytest.raises(ConnectionResetError):
        asked(wires, b"", close=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
def test_half_an_answer_is_none(wires: Wires, answer: bytes) -> None:
    with pytest.raises(IncompleteRead):
        asked(wires, answer, close=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 80_000,
    ],
)
def test_what_is_no_http_is_refused(wires: Wires, answer: bytes) -> None:
    with pytest.raises(HTTPException):
        asked(wires, answer)


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/a b", {}), ("/a\r\nx: y", {}), ("/a", {"x": "y\r\nz: 1"}), ("/a", {"x": "\n"})],
)
def test_nothing_is_smuggled_in(wires: Wires, path: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line end"):
        exchange(wires[0], "GET", path, headers, b"", time.monotonic() + 60)


def test_a_server_that_trickles_meets_the_deadline(wires: Wires) -> None:
    ours, theirs = wires
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.01):
            theirs.sendall(b"H")

    server = threading.Thread(target=trickle)
    server.start()
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        exchange(ours, "GET", "/a", {}, b"", time.monotonic() + 0.2)
    ended.set()
    server.join()
    assert time.monotonic() - began_s < 30
    eventually(lambda: not server.is_alive())
