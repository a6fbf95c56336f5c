"""A transcriber without a supervisor: for `conserver transcribe`, for scripts and for tests.

It is a process of its own here, too, and always spawned: onnxruntime (which may find speech) and
CTranslate2 wait for each other at the exit of a process that has used both.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from conserver.errors import ConserverError
from conserver.media.speech.devices import cpu_environment, gpus
from conserver.media.speech.service import Service
from conserver.media.speech.service_options import ServiceOptions
from conserver.process import failpoints, memory, packets
from conserver.process.signals import signals_blocked
from conserver.telemetry import log

_READY_S_MAX = 1800.0
_END_S_MAX = 5.0


class NotStarted(ConserverError):
    """The transcriber ended before it was ready."""


@dataclass
class Running:
    """A running transcriber and its address. Closing it ends the process."""

    address: str
    listener: socket.socket
    options: ServiceOptions
    process: BaseProcess
    lifeline: Connection
    killed: bool = False
    """Whether `kill` was called."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _creating: threading.Lock = field(default_factory=threading.Lock)
    """Held for the milliseconds in which a process is created."""
    _failure: NotStarted | None = None

    def revive(self) -> None:
        """Start a replacement if the process has died, as a supervisor does. Thread-safe.

        Raises:
            NotStarted: the replacement ended before it was ready, now or in an earlier call.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if not self.process.is_alive():
                try:
                    self.again()
                except NotStarted as error:
                    self._failure = error
                    raise

    def again(self) -> None:
        """Start a replacement at the same address, after the process has died.

        Raises:
            NotStarted: the replacement ended before it was ready; or `kill` was called.
        """
        self.lifeline.close()
        self.process.join(_END_S_MAX)
        with self._creating:
            if self.killed:
                raise NotStarted("the transcriber was killed")
            self.process, self.lifeline = _create(self.listener, self.options)
        _await_ready(self.process, self.lifeline)

    def kill(self) -> None:
        """Kill the process at once, also a replacement that is not ready yet. None follows it."""
        self.killed = True
        # If this process ended in the middle of a creation, the new process would print a
        # traceback: it could not read what it is to run.
        with self._creating:
            self.process.kill()
            self.process.join()

    def close(self) -> None:
        """End it."""
        self.lifeline.close()
        self.process.join(_END_S_MAX)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.listener.close()


@contextmanager
def running(options: ServiceOptions) -> Iterator[Running]:
    """A transcriber that has loaded its first models.

    Raises:
        NotStarted: it ended before it was ready.
    """
    address = f"conserver-{os.urandom(8).hex()}"
    listener = packets.listen(address)
    started = Running(address, listener, options, *_create(listener, options))
    _await_ready(started.process, started.lifeline)
    try:
        yield started
    finally:
        started.close()


def _create(listener: socket.socket, options: ServiceOptions) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(listener, options, theirs), daemon=True)
    on_cpu = all(model.device == "cpu" for model in options.models) or not gpus(os.environ)
    resource_tracker.ensure_running()  # Starting it unblocks signals, so start it now.
    environment = memory.environment(cpu_environment(os.environ) if on_cpu else {})
    # A terminal sends Ctrl-C to all its processes. The transcriber must ignore it: the command ends
    # the transcriber.
    with environment, signals_blocked([signal.SIGINT]):
        process.start()
    theirs.close()
    return process, ours


def _await_ready(process: BaseProcess, lifeline: Connection) -> None:
    try:
        if not lifeline.poll(_READY_S_MAX):
            raise NotStarted("the transcriber did not become ready")
        lifeline.recv()
    except EOFError:
        lifeline.close()
        process.join()
        raise NotStarted(f"the transcriber ended with code {process.exitcode}") from None
    except BaseException:  # Ctrl-C, too, while it loads its models.
        lifeline.close()
        process.kill()
        process.join()
        raise


def _serve(listener: socket.socket, options: ServiceOptions, lifeline: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.use_one_arena()
    listener.setblocking(False)
    log.configure("transcriber", level="WARNING", shape="console", fd=2)
    failpoints.arm(os.environ)
    service = Service(listener, options, beat=_nothing, count=_nothing, show=_nothing)
    code = service.run(
        ready=lambda: lifeline.send("ready"), ended=lifeline.poll, fds=[lifeline.fileno()]
    )
    os._exit(code)


def _nothing(*_: object) -> None:
    pass
