"""The page readers that this process uses: the host's, or its own if there is no supervisor."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Protocol

from conserver.process import packets


class Readers(Protocol):
    """Page readers that accept connections at one address."""

    @property
    def address(self) -> str:
        """The address of their socket."""

    @property
    def count(self) -> int:
        """How many readers there are. The client requests this many pages at once."""

    def ensure(self) -> None:
        """Replace readers that have ended. The client calls this about once a second."""


@dataclass(frozen=True, slots=True)
class HostReaders:
    """The readers of the host, which the supervisor starts and replaces."""

    address: str
    count: int

    def ensure(self) -> None:
        """Does nothing: the supervisor replaces them."""


class OwnReaders:
    """Page readers of this process. They end when it ends, even by a kill."""

    def __init__(self, count: int) -> None:
        self.address = f"conserver-{os.urandom(16).hex()}"
        self.count = count
        self._listener: socket.socket | None = None
        self._lifeline, self._lifeline_write = -1, -1
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    def ensure(self) -> None:
        """See `Readers`. The first call starts the readers."""
        with self._lock:
            if self._listener is None:
                self._listener = packets.listen(self.address)
                self._lifeline, self._lifeline_write = os.pipe2(os.O_CLOEXEC)
            self._processes = [one for one in self._processes if one.poll() is None]
            while len(self._processes) < self.count:
                self._processes.append(self._start(self._listener))

    @property
    def pids(self) -> list[int]:
        """The process ids of running readers."""
        with self._lock:
            return [one.pid for one in self._processes if one.poll() is None]

    def _start(self, listener: socket.socket) -> subprocess.Popen[bytes]:
        descriptors = (listener.fileno(), self._lifeline)
        command = [sys.executable, "-m", "conserver.media.extraction.alone", *map(str, descriptors)]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=descriptors, env=environ
        )

    def close(self) -> None:
        """End them."""
        with self._lock:
            if self._listener is not None:
                os.close(self._lifeline_write)
                os.close(self._lifeline)
                self._listener.close()
                self._listener = None
            for process in self._processes:
                process.wait()
            self._processes = []


class Pool:
    """Chooses the page readers for the links of this process."""

    def __init__(self) -> None:
        self._readers: Readers | None = None
        self._lock = threading.Lock()

    def use(self, readers: Readers | None) -> None:
        """Use these readers from now on. None: use readers of this process."""
        with self._lock:
            self._readers = readers

    def readers(self) -> Readers:
        """The readers. If none were set, the first call makes readers of this process, one per
        core.
        """
        with self._lock:
            if self._readers is None:
                self._readers = own = OwnReaders(len(os.sched_getaffinity(0)))
                atexit.register(own.close)
            return self._readers


pool = Pool()
"""The pool of this process. The worker's main loop calls `use` with the host's readers."""
