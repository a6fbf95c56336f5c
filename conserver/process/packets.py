"""Packets between workers and the processes that serve them: one JSON object each, with a memfd
where one belongs.

A server listens on an abstract UNIX address: there is no file to clean up, and the address goes on
existing while one process is replaced by the next. Whoever connects must be of the same
user, or root; both sides check that.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Any

import orjson

Message = dict[str, Any]

PACKET_BYTES_MAX = 1 << 18
_BACKLOG = 1024
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Gone(Exception):
    """The other side of a connection has ended, or is not there."""


def listen(name: str) -> socket.socket:
    """A socket that waits for connections at an abstract address, without blocking."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def connect(name: str) -> socket.socket:
    """A connection to a server, which may be about to start.

    Raises:
        Gone: nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(f"\0{name}")
        _check_user(connection)
        _widen(connection)
    except OSError as error:
        connection.close()
        raise Gone(str(error)) from error
    return connection


def accept(listener: socket.socket) -> socket.socket | None:
    """The next connection, without blocking; None if there is none, or if it is somebody else's."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    try:
        _check_user(connection)
        _widen(connection)
    except OSError:
        connection.close()
        return None
    connection.setblocking(False)
    return connection


def _check_user(connection: socket.socket) -> None:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    if user not in (os.geteuid(), 0):
        raise PermissionError(f"the other side belongs to the user {user}")


def _widen(connection: socket.socket) -> None:
    # As much as the system grants; a packet that is longer than that cannot be sent at all.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET_BYTES_MAX)


def send(connection: socket.socket, message: Message, descriptor: int = -1) -> bool:
    """Send a packet, and a descriptor with it.

    Returns:
        False if the connection does not block and has no room now.

    Raises:
        Gone: the other side has ended.
    """
    packet = orjson.dumps(message)
    try:
        if descriptor < 0:
            connection.send(packet)
        else:
            socket.send_fds(connection, [packet], [descriptor])
    except BlockingIOError:
        return False
    except OSError as error:
        raise Gone(str(error)) from error
    return True


def receive(connection: socket.socket) -> tuple[Message, int] | None:
    """The next packet and the descriptor that came with it, -1 for none.

    Returns:
        None if the connection does not block, or has a timeout, and nothing came.

    Raises:
        Gone: the other side has ended.
    """
    try:
        packet, descriptors, _, _ = socket.recv_fds(connection, PACKET_BYTES_MAX, 1)
    except (BlockingIOError, TimeoutError):
        return None
    except OSError as error:
        raise Gone(str(error)) from error
    if not packet:
        for descriptor in descriptors:
            os.close(descriptor)
        raise Gone("it has closed the connection")
    message: Message = orjson.loads(packet)
    return message, descriptors[0] if descriptors else -1


def has_news(connection: socket.socket) -> bool:
    """Whether `receive` would return a packet, or tell the end, at once."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
