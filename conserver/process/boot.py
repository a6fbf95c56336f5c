"""Boot: everything that a child process gets from the supervisor.

A child reads no configuration file and inherits nothing else. Boot is an argument of
multiprocessing's Process. Under fork it is passed unchanged. Under spawn and forkserver it is
pickled, and its descriptors are transferred.

Transcribers and page readers get plain values in place of the configuration and the settings. To
unpickle these, a process would import pydantic and the configuration's model: 17 MB.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Literal

from conserver.process.messages import send
from conserver.process.shared_status import SharedStatus
from conserver.process.signals import StopFlag
from conserver.telemetry.redact import secret_values

if TYPE_CHECKING:
    from conserver.config.model import Config
    from conserver.config.settings import Settings

Role = Literal["worker", "coordinator", "api", "transcriber", "reader"]
Service = Literal["api", "transcriber", "reader"]
"""Children that the supervisor runs beside the workers. They do not claim or hold items."""

HELPERS: frozenset[Role] = frozenset({"transcriber", "reader"})
"""Children that only some chains use. They are always spawned: their libraries survive no fork."""


@dataclass(frozen=True, slots=True)
class Basics:
    """The part of configuration and settings that every child needs, as plain values."""

    log_level: str
    log_format: str
    measures: bool
    secrets: tuple[str, ...] = field(repr=False)
    """Texts that are hidden in all output."""

    @classmethod
    def of(cls, settings: Settings, config: Config) -> Basics:
        """The part of these settings and this configuration."""
        return cls(
            log_level=settings.log_level,
            log_format=settings.log_format,
            measures=settings.measures,
            secrets=(*secret_values(settings), *config.secrets),
        )


@dataclass(eq=False)
class Boot:
    """Everything a child needs. Only this child reads from the sockets in it."""

    role: Role
    slot: int
    """1..N for a worker and for each kind of service, 0 for the coordinator."""
    workers: int
    """The number of workers of this host."""
    host: str
    consumer: str
    """The worker's consumer id, registered before the worker starts; empty for other children."""
    config: Config
    """Transcribers and page readers have neither configuration nor settings."""
    settings: Settings
    supervisor: socket.socket
    """The child's end of the socket pair between it and the supervisor."""
    coordinator: socket.socket | None
    """Worker only: the worker's end of the socket pair between it and the coordinator."""
    worker_ends: list[socket.socket]
    """Coordinator only: the coordinator's ends of these pairs, in slot order."""
    status: SharedStatus
    """The child's own shared status. Only this child writes it."""
    statuses: list[SharedStatus]
    """Coordinator and API: the workers' shared statuses, in slot order; read only."""
    lifeline: int
    """A descriptor that becomes readable (end of file) when the supervisor is gone."""
    listener: socket.socket | None = None
    """The listening socket: of a service, for its clients; of the coordinator, for metrics, if they
    have a port. It outlives the child, so that no connection is refused during a replacement,
    unless the replacement could not start."""
    other_statuses: list[SharedStatus] = field(default_factory=list)
    """Coordinator and API: the shared statuses of services and transcribers, for their metrics."""
    transcribers: list[str] = field(default_factory=list)
    """The addresses of this host's transcribers; empty if workers load the models themselves."""
    page_readers: tuple[str, int] = ("", 0)
    """Worker and page reader: the address of this host's page readers, and their number."""
    device: str = ""
    """Transcriber and page reader: the GPU, for CUDA_VISIBLE_DEVICES; empty for the CPU."""
    options: Any = None
    """Transcriber only: its ServiceOptions (media/speech/service_options.py)."""
    memory_bytes: int = 0
    """Page reader only: the limit of its memory."""
    environment: dict[str, str] = field(default_factory=dict)
    """Transcriber only: environment variables with which the process is started."""
    safer: bool = False
    """Transcriber only: use the slower, safer allocator, because the previous transcriber's results
    were wrong."""
    stop: StopFlag | None = field(default=None)
    """Set once SIGTERM or SIGINT has arrived. child_main creates it."""
    basics: Basics = field(init=False)

    def __post_init__(self) -> None:
        self.basics = Basics.of(self.settings, self.config)

    @property
    def title(self) -> str:
        """The process title that ps shows."""
        if self.role == "transcriber":
            return f"conserver: transcriber {self.slot} of {len(self.transcribers)}"
        if self.role == "reader":
            return f"conserver: page reader {self.slot} of {self.page_readers[1]}"
        if self.role != "worker":
            return f"conserver: {self.role}"
        return f"conserver: worker {self.slot} of {self.workers}"

    @property
    def channels(self) -> list[socket.socket]:
        """All sockets in this Boot."""
        others = (self.coordinator, self.listener)
        return [self.supervisor, *self.worker_ends, *(end for end in others if end is not None)]

    def send(self, kind: str, **fields: Any) -> bool:
        """Send a message of type `kind` to the supervisor (messages.py lists the types).

        Returns:
            False if the message could not be sent.
        """
        return send(self.supervisor, {"type": kind, **fields})

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self.role in HELPERS:
            del state["config"], state["settings"]
        state["lifeline"] = reduction.DupFd(self.lifeline)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lifeline = state["lifeline"].detach()
        # Pickling a socket loses its non-blocking mode.
        for channel in self.channels:
            channel.setblocking(False)
