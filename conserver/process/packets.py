"""Packets between a worker and a transcriber or page reader: a JSON object, and a memfd if needed.

The server listens on an abstract UNIX address, which needs no file and exists while the server
process is replaced. Both sides check that the other process belongs to the same user or to root.
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
    """The other process has closed the connection, or does not exist."""


def listen(name: str) -> socket.socket:
    """A non-blocking socket that listens on an abstract address."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def connect(name: str) -> socket.socket:
    """Connect to a server. The connection also succeeds while the server process is starting.

    Raises:
        Gone: no server listens there, or it belongs to another user.
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
    """The next connection, without blocking; None if there is none, or another user connects."""
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
    # The system may grant less. A packet that does not fit into the buffer cannot be sent at all.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET_BYTES_MAX)


def send(connection: socket.socket, message: Message, descriptor: int = -1) -> bool:
    """Send a packet, with a descriptor if one is given.

    Returns:
        False if the connection does not block and has no room now.

    Raises:
        Gone: the other process has closed the connection.
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
    """Read the next packet.

    Returns:
        The packet and its descriptor (-1 if it has none). None if no packet came, and the
        connection does not block or its timeout is over.

    Raises:
        Gone: the other process has closed the connection.
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
    """Whether `receive` would return a packet or raise Gone at once."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
