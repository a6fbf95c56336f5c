"""The messages between the supervisor and a child.

A message is a JSON object with a "type", in one packet of a non-blocking SOCK_SEQPACKET pair. The
pair belongs to the child's slot and outlives the child. Before a replacement starts, the supervisor
discards the messages that the dead child has not read.

    child -> supervisor
        ready                           the child has started and works from now on
        failed      message, exit_code  the child cannot start, and exits with this code
        void                            (worker) its registration is void, and it exits
        retiring    reason              (worker) it drains and exits, for this reason
        acknowledged  order             (coordinator) this order was carried out
        recycle     slot, consumer      (coordinator) an operator wants this worker replaced
        reload      request             (coordinator) an operator wants the configuration read again
    supervisor -> worker
        drain                           claim nothing more; finish, store, settle, exit
    supervisor -> coordinator
        register    order, consumer, slot, lists
        return      order, consumer, blame, empty
                                        blame: the fields of Blame; empty: whether the worker held
                                        no item when it ended
        children    consumers           the consumer ids of all workers: void all others of this
                                        host (sent on every change, and every 5 s)
        state       supervisor, workers, services
                                        what `conserver status` shows (sent on every change, and
                                        every 2 s)
        drain       successor, patient  carry out all orders, then exit. If successor is true,
                                        another coordinator takes over: leave the host registered.
                                        If patient is false, no order returns items: exit at once if
                                        Redis is away

"order" is the number of an order. An order is repeated until it is acknowledged
(supervisor/orders.py).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

Message = dict[str, Any]


class Blamed(NamedTuple):
    """One item that may have caused a worker's death."""

    token: str
    epoch: int
    counts: bool = False
    """Whether the death counts against this item at once."""
    note: Mapping[str, str] = {}
    """How the worker died, for a dead letter: "error", a clause; "link", the link that ran;
    "reason", if it is not poison.
    """


@dataclass(frozen=True, slots=True)
class Blame:
    """The items that may have caused a worker's death (supervisor/death.py has the rule).

    kind: "nobody", "items" (only those in `items`) or "everything". note: for items without a note
    of their own.
    """

    kind: str = "nobody"
    items: Sequence[Blamed] = ()
    note: Mapping[str, str] = field(default_factory=dict)


MESSAGE_BYTES_MAX = 1 << 17
"""No message is longer; the kernel's socket buffer takes at least one of this size."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that preserve packet boundaries and do not block."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


def send(channel: socket.socket, message: Message) -> bool:
    """Send one message without waiting.

    Returns:
        False if the message could not be sent: the other process does not read, or is gone.
    """
    try:
        channel.send(orjson.dumps(message, default=tuple))  # orjson refuses a NamedTuple.
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
    """Read all waiting messages, oldest first; [] if there are none or the other side is gone."""
    messages: list[Message] = []
    while True:
        try:
            packet = channel.recv(MESSAGE_BYTES_MAX)
        except (BlockingIOError, ConnectionError):
            return messages
        if not packet:
            return messages
        messages.append(orjson.loads(packet))
