"""The messages between the supervisor and a child.

A message is one packet of a non-blocking SOCK_SEQPACKET pair: a JSON object with a "type". The pair
belongs to the slot and outlives the child: before a replacement starts, the supervisor discards
what the dead child had not read.

    child -> supervisor
        ready                           started; it works from now on
        failed      message, exit_code  cannot start, and exits with that code
        void                            (worker) its registration is void: it exits
        retiring    reason              (worker) it drains and exits, for a reason of its own
        acknowledged  order             (coordinator) this order was carried out
        recycle     slot, consumer      (coordinator) an operator wants this worker replaced
        reload      request             (coordinator) an operator wants the configuration read again
    supervisor -> worker
        drain                           claim nothing more; finish, store, settle, exit
    supervisor -> coordinator
        register    order, consumer, slot, lists
        return      order, consumer, blame (the fields of Blame)
        children    consumers           all registered consumers: void every other one of this
                                        host (sent on every change, and every 5 s)
        state       supervisor, workers what `conserver status` shows (on every change, and every
                                        2 s)
        drain       successor           carry out all orders, then exit. successor true: another
                                        coordinator takes over, so leave the host registered

"order" is the number of an order, which is repeated until acknowledged (supervisor/orders.py).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Blame:
    """Which items may have caused a worker's death; they become suspects.

    kind: "nobody", "items" (those in `items`, as token and epoch) or "everything". over_limit:
    tokens among `items` over their own time limit; the death counts against each at once. notes:
    token (or "" for items that are not named) -> how the worker died: "error", a clause; "link",
    the one that ran; "reason", if it is not poison. Dead letters show it.
    """

    kind: str = "nobody"
    items: Sequence[tuple[str, int]] = ()
    over_limit: Sequence[str] = ()
    notes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


MESSAGE_BYTES_MAX = 1 << 17
"""No message is longer; the kernel's socket buffer takes at least one of this size."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends that preserve packet boundaries and do not block."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def send(channel: socket.socket, message: Message) -> bool:
    """Send one message without waiting.

    Returns:
        False if it could not be sent: the other side does not read, or is gone.
    """
    try:
        channel.send(orjson.dumps(message))
    except (BlockingIOError, BrokenPipeError, ConnectionError):
        return False
    return True


def discard(channel: socket.socket) -> None:
    """Read and drop all waiting packets."""
    while True:
        try:
            if not channel.recv(MESSAGE_BYTES_MAX):
                return
        except (BlockingIOError, ConnectionError):
            return


def receive(channel: socket.socket) -> list[Message]:
    """All waiting messages, oldest first; [] if there are none or the other side is gone."""
    messages: list[Message] = []
    while True:
        try:
            packet = channel.recv(MESSAGE_BYTES_MAX)
        except (BlockingIOError, ConnectionError):
            return messages
        if not packet:
            return messages
        messages.append(orjson.loads(packet))
