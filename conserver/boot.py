"""What a child is born with, and the messages it exchanges with the supervisor.

`Boot` is all that a worker or the steward gets: it opens no file of the configuration, looks up no
name and inherits nothing else. It travels as an argument of multiprocessing's Process: as it is
under fork, pickled under spawn and forkserver, its descriptors then along with it.

A message is one packet of a SOCK_SEQPACKET pair: a JSON object with a "type". The sockets do not
block. They belong to a slot, not to a child: a replacement goes on with its predecessor's, and the
supervisor has taken out what the dead one had not read.

    child -> supervisor
        ready                           it works from now on
        failed      message, exit_code  it cannot start, and ends with that code
        void                            (worker) its registration is void: it ends
        retiring    reason              (worker) it ends of its own will
        acknowledged  order             (steward) that order is done
    supervisor -> worker
        drain                           no more claims; finish, settle, end
    supervisor -> steward
        register    order, consumer, slot, lists
        return      order, consumer, blame, items, counted
                    blame: nobody | items | everything; items: [[token, epoch], ...] become
                    suspects; counted: [token, ...] of them that a delivery is counted for
        children    consumers           all that live, or are about to: void every other one of
                                        this host (on every change, and every 5 s)
        state       supervisor, workers what the status shows (on every change, and every 2 s)
        drain       successor           finish all orders, then end; with successor true another
                                        steward takes over: leave the host registered
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from multiprocessing import reduction
from typing import Any, Literal

import orjson

from conserver.config import Config
from conserver.page import Page
from conserver.settings import Settings
from conserver.signals import Stop

Role = Literal["worker", "steward"]
Message = dict[str, Any]

MESSAGE_BYTES_MAX = 1 << 17
"""No message is longer; the kernel's socket buffer takes at least one of this size."""


@dataclass(eq=False)
class Boot:
    """Everything a child needs. It is the child's own: no other process reads these ends."""

    role: Role
    slot: int
    """1..N for a worker, 0 for the steward."""
    workers: int
    """How many workers the household has."""
    host: str
    consumer: str
    """The worker's consumer id, registered before it starts; empty for the steward."""
    config: Config
    settings: Settings
    orders: socket.socket
    """To and from the supervisor."""
    steward: socket.socket | None
    """Worker only: to and from the steward."""
    worker_ends: list[socket.socket]
    """Steward only: the other ends of these, in the order of the slots."""
    page: Page
    """Its own page."""
    pages: list[Page]
    """Steward only: the workers' pages, in the order of the slots; for reading."""
    lifeline: int
    """A descriptor that becomes readable (end of file) when the supervisor is gone."""
    stop: Stop | None = field(default=None)
    """Set by the child's preparation: readable once SIGTERM or SIGINT has come."""

    @property
    def title(self) -> str:
        """What ps shows."""
        if self.role == "steward":
            return "conserver: steward"
        return f"conserver: worker {self.slot} of {self.workers}"

    @property
    def name(self) -> str:
        """What log lines show."""
        return "steward" if self.role == "steward" else f"worker-{self.slot}"

    @property
    def channels(self) -> list[socket.socket]:
        """All its sockets."""
        own = [self.orders, *self.worker_ends]
        return own if self.steward is None else [*own, self.steward]

    def tell(self, kind: str, **fields: Any) -> bool:
        """Send a message to the supervisor."""
        return send(self.orders, {"type": kind, **fields})

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state["lifeline"] = reduction.DupFd(self.lifeline)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lifeline = state["lifeline"].detach()
        # An unpickled socket object does not know that its descriptor does not block.
        for channel in self.channels:
            channel.setblocking(False)


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
