"""What whoever starts a supervisor may choose: what its children run, and what is served beside."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conserver.config.settings import Settings
from conserver.process.boot import Role
from conserver.supervisor.slots import ChildSlot


@dataclass(frozen=True)
class Entries:
    """The entry functions of the children, as "module:function"; imported in the child."""

    worker: str = "conserver.worker.loop:main"
    coordinator: str = "conserver.coordinator:main"
    api: str = "conserver.http.child:main"
    transcriber: str = "conserver.media.speech.transcriber:main"
    reader: str = "conserver.media.extraction.service:main"

    @property
    def modules(self) -> list[str]:
        """The modules that are imported once, before a fork: those that every host needs."""
        return [entry.partition(":")[0] for entry in (self.worker, self.coordinator)]

    def of(self, role: Role) -> str:
        """The entry function of a role."""
        return str(getattr(self, role))


OUR_ENTRIES = Entries()

Services = Callable[[Settings], Sequence[ChildSlot]]
"""Makes the slots of the services that the settings ask for. Raises BootError."""


def no_services(_settings: Settings) -> Sequence[ChildSlot]:
    """Workers and a coordinator, and nothing else."""
    return ()


Listener = Callable[[Settings], socket.socket | None]
"""Makes the socket that metrics are served on, if they are wanted. Raises BootError."""


def no_listener(_settings: Settings) -> socket.socket | None:
    """No metrics."""
    return None
