"""What a child is born with, and nothing else.

`Boot` is all that a worker or the coordinator gets: it opens no file of the configuration, looks
up no
name and inherits nothing else. It travels as an argument of multiprocessing's Process: as it is
under fork, pickled under spawn and forkserver, its descriptors then along with it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from multiprocessing import reduction
from typing import Any, Literal

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.process.messages import send
from conserver.process.shared_status import SharedStatus
from conserver.process.signals import Stop

Role = Literal["worker", "coordinator"]


@dataclass(eq=False)
class Boot:
    """Everything a child needs. It is the child's own: no other process reads these ends."""

    role: Role
    slot: int
    """1..N for a worker, 0 for the coordinator."""
    workers: int
    """How many workers the household has."""
    host: str
    consumer: str
    """The worker's consumer id, registered before it starts; empty for the coordinator."""
    config: Config
    settings: Settings
    orders: socket.socket
    """To and from the supervisor."""
    coordinator: socket.socket | None
    """Worker only: to and from the coordinator."""
    worker_ends: list[socket.socket]
    """Coordinator only: the other ends of these, in the order of the slots."""
    status: SharedStatus
    """Its own page."""
    statuses: list[SharedStatus]
    """Coordinator only: the workers' pages, in the order of the slots; for reading."""
    lifeline: int
    """A descriptor that becomes readable (end of file) when the supervisor is gone."""
    stop: Stop | None = field(default=None)
    """Set by the child's preparation: readable once SIGTERM or SIGINT has come."""

    @property
    def title(self) -> str:
        """What ps shows."""
        if self.role == "coordinator":
            return "conserver: coordinator"
        return f"conserver: worker {self.slot} of {self.workers}"

    @property
    def name(self) -> str:
        """What log lines show."""
        return "coordinator" if self.role == "coordinator" else f"worker-{self.slot}"

    @property
    def channels(self) -> list[socket.socket]:
        """All its sockets."""
        own = [self.orders, *self.worker_ends]
        return own if self.coordinator is None else [*own, self.coordinator]

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
