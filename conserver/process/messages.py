"""The messages between the supervisor and a child.

A message is one packet of a SOCK_SEQPACKET pair: a JSON object with a "type". The sockets do not
block. They belong to a slot, not to a child: a replacement goes on with its predecessor's, and the
supervisor has taken out what the dead one had not read.

    child -> supervisor
        ready                           it works from now on
        failed      message, exit_code  it cannot start, and ends with that code
        void                            (worker) its registration is void: it ends
        retiring    reason              (worker) it ends of its own will
        acknowledged  order             (coordinator) that order is done
    supervisor -> worker
        drain                           no more claims; finish, settle, end
    supervisor -> coordinator
        register    order, consumer, slot, lists
        return      order, consumer, blame, items, counted
                    blame: nobody | items | everything; items: [[token, epoch], ...] become
                    suspects; counted: [token, ...] of them that a delivery is counted for
        children    consumers           all that live, or are about to: void every other one of
                                        this host (on every change, and every 5 s)
        state       supervisor, workers what the status shows (on every change, and every 2 s)
        drain       successor           finish all orders, then end; with successor true another
                                        coordinator takes over: leave the host registered
"""

from __future__ import annotations

import socket
from typing import Any

import orjson

Message = dict[str, Any]

MESSAGE_BYTES_MAX = 1 << 17
"""No message is longer; the kernel's socket buffer takes at least one of this size."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends that keep packets apart and do not block."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def send(channel: socket.socket, message: Message) -> bool:
    """Send one message, without waiting.

    Returns:
        False if it could not be sent: the other side does not read, or is gone.
    """
    try:
        channel.send(orjson.dumps(message))
    except (BlockingIOError, BrokenPipeError, ConnectionError):
        return False
    return True


def discard(channel: socket.socket) -> None:
    """Throw away all that waits: it was meant for a process that is dead."""
    while True:
        try:
            if not channel.recv(MESSAGE_BYTES_MAX):
                return
        except (BlockingIOError, ConnectionError):
            return


def receive(channel: socket.socket) -> list[Message]:
    """All messages that wait, oldest first; none if there are none or the other side is gone."""
    messages: list[Message] = []
    while True:
        try:
            packet = channel.recv(MESSAGE_BYTES_MAX)
        except (BlockingIOError, ConnectionError):
            return messages
        if not packet:
            return messages
        messages.append(orjson.loads(packet))
