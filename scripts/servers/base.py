"""One server: its port, its folder, its life.

A Server (1) picks a free port and a folder in the temporary directory, (2) has itself launched
as a process tree or a container, whichever this machine offers, (3) waits until the server
answers, (4) stops, kills, pauses and starts it again with the same port and data, and (5) leaves
nothing behind when closed, nor when the test process is killed (guard.py).
Each kind says what to run and how to ask whether it answers; nothing else differs between them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from servers.container import Container
from servers.guard import GUARD
from servers.packages import docker_works
from servers.ports import free_port
from servers.process import ProcessTree

_POLL_S = 0.02
_LOG_TAIL_CHARS = 4_000


class ServerFailed(RuntimeError):
    """A server did not come up, or ended while it was being waited for."""


class Life(Protocol):
    """What can be done to something that runs, be it a process tree or a container."""

    @property
    def pid(self) -> int:
        """The process to look at from outside; for a container the one inside it."""

    def launch(self) -> None:
        """Start it, with the data of the last time if there was one."""

    def alive(self) -> bool:
        """Whether it runs (paused counts as running)."""

    def stop(self, timeout_s: float) -> None:
        """Ask it to end, and kill it when `timeout_s` is over."""

    def kill(self) -> None:
        """End it at once and wait until it is gone."""

    def pause(self) -> None:
        """Freeze it whole: connections stay open and nothing answers."""

    def resume(self) -> None:
        """Let it go on."""

    def discard(self) -> None:
        """Kill it, if need be, and delete what the launcher itself made."""


@dataclass(frozen=True)
class Plan:
    """What to run on this machine."""

    command: list[str]
    user: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    stop_signal: int = 15


@dataclass(frozen=True)
class Image:
    """What to run in a container: its arguments, and the port that it listens on inside."""

    name: str
    port: int
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


class Server(ABC):
    """A server of one kind. Use start() and close(), or a `with` block."""

    kind: ClassVar[str]
    start_timeout_s: ClassVar[float] = 60
    stop_timeout_s: ClassVar[float] = 60

    def __init__(
        self, *, port: int | None = None, folder: Path | None = None, outlive: bool = False
    ) -> None:
        """`outlive`: the server goes on when this process ends, until somebody closes it."""
        self.port = port or free_port()
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"conserver-{self.kind}-"))
        self.outlive = outlive
        self._life: Life | None = None
        if not outlive:
            GUARD.watch("folder", str(self.folder))
        # Servers that refuse to run as root must be able to walk through to their own folder.
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it."""

    @abstractmethod
    def plan(self) -> Plan:
        """What to run here; prepares the folder. Raises Missing if it is not installed."""

    @abstractmethod
    def image(self) -> Image:
        """What to run where a Docker engine is."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves requests now. Quick, never raises for a server that is down."""

    def settings(self) -> dict[str, str]:
        """The variables that scripts/services exports for it, by their names' last part."""
        return {"URL": self.url}

    @property
    def log_file(self) -> Path:
        """What the server printed."""
        return self.folder / "log"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self.life.pid

    @property
    def alive(self) -> bool:
        """Whether it runs (paused counts as running)."""
        return self._life is not None and self._life.alive()

    def start(self) -> Self:
        """Start it, or start it again, and wait until it answers.

        Raises Missing if this machine has no such server, ServerFailed if it does not come up.
        """
        self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        """Start it without waiting, so that several can come up at the same time."""
        if self._life is None:
            self._life = self._make_life()
        if not self._life.alive():
            self._life.launch()

    def wait(self) -> None:
        """Wait until it answers. Raises ServerFailed, with the end of its log."""
        deadline = time.monotonic() + self.start_timeout_s
        while not self.answers():
            if not self.alive:
                raise ServerFailed(f"{self.kind} ended at its start:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.kind} does not answer after {self.start_timeout_s:.0f} s:\n"
                    f"{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Shut it down in order; start() brings it back with its data."""
        self.life.stop(self.stop_timeout_s)

    def kill(self) -> None:
        """kill -9 of all that belongs to it; start() brings it back with what was on disk."""
        self.life.kill()

    def restart(self) -> None:
        """stop() and start()."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP of all that belongs to it: connections stay open and nothing answers."""
        self.life.pause()

    def resume(self) -> None:
        """SIGCONT after pause()."""
        self.life.resume()

    def close(self) -> None:
        """End it, paused or not, and delete its data."""
        if self._life is not None:
            self._life.discard()
            self._life = None
        shutil.rmtree(self.folder, ignore_errors=True)
        if not self.outlive:
            GUARD.forget("folder", str(self.folder))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _make_life(self) -> Life:
        if docker_works():
            name = f"conserver-test-{self.kind}-{os.getpid()}-{self.port}"
            return Container(name, self.image(), self.port, self.log_file, guarded=not self.outlive)
        plan = self.plan()
        return ProcessTree(plan, self.folder, self.log_file, guarded=not self.outlive)

    @property
    def life(self) -> Life:
        """What runs it: a process tree or a container. Raises RuntimeError before launch()."""
        if self._life is None:
            raise RuntimeError(f"{self.kind} was never started")
        return self._life

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return self.log_file.read_text(errors="replace")[-_LOG_TAIL_CHARS:]
        return "(no log)"


def start_all(servers: Iterable[Server]) -> None:
    """Start several at the same time; the slowest decides how long it takes."""
    waiting = list(servers)
    for server in waiting:
        server.launch()
    for server in waiting:
        server.wait()
