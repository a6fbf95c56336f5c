"""The parts of a supervisor that its caller chooses: entry functions, services, metrics socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conserver.config.settings import Settings
from conserver.process.boot import Role
from conserver.supervisor.slots import ChildSlot

_NOTIFYING = "conserver.links.notify"
"""The link of the chain that every worker has (config/notifications.py)."""


@dataclass(frozen=True)
class Entries:
    """The entry functions of the children, as "module:function". Each child imports its own."""

    worker: str = "conserver.worker.loop:main"
    coordinator: str = "conserver.coordinator:main"
    api: str = "conserver.http.child:main"
    transcriber: str = "conserver.media.speech.transcriber:main"
    reader: str = "conserver.media.extraction.service:main"

    @property
    def modules(self) -> list[str]:
        """The modules that the supervisor imports before a fork, because every host needs them."""
        own = [entry.partition(":")[0] for entry in (self.worker, self.coordinator)]
        return [*own, _NOTIFYING]

    def of(self, role: Role) -> str:
        """The entry function of a role."""
        return str(getattr(self, role))


OUR_ENTRIES = Entries()

Services = Callable[[Settings], Sequence[ChildSlot]]
"""Makes the slots of the services that the settings ask for. Raises BootError."""


def no_services(_settings: Settings) -> Sequence[ChildSlot]:
    """No services: only workers and a coordinator run."""
    return ()


Listener = Callable[[Settings], socket.socket | None]
"""Makes the socket for metrics; None if the settings ask for none. Raises BootError."""


def no_listener(_settings: Settings) -> socket.socket | None:
    """No socket for metrics."""
    return None
