"""One child process, as the supervisor sees it.

1. Starts it by any start method, with its signals held back until it can take them.
2. Learns of its death from its pid alone. Under forkserver the child is not the supervisor's own,
   and multiprocessing's sentinel fires when the forkserver dies, while the child works on.
3. Kills it through its pidfd, which cannot hit another process that got the same number.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import cast

from conserver.errors import EXIT_CHILD
from conserver.process.boot import Boot
from conserver.process.descriptors import Inherited
from conserver.process.live import live
from conserver.process.signals import held_back

EXIT_STATUS_WAIT_S = 1.0
"""How long a forkserver may take to tell the exit status of a child that is dead."""


def context_for(method: str) -> tuple[str, BaseContext]:
    """The start method by its name, and its context; an empty name is the platform's default.

    multiprocessing's own global default is neither read nor set.
    """
    name = method or multiprocessing.get_all_start_methods()[0]
    return name, multiprocessing.get_context(name)


class Child:
    """One child process, from its start to its exit code. It is started once."""

    def __init__(
        self, context: BaseContext, entry: str, boot: Boot, inherited: Inherited | None
    ) -> None:
        """
        Args:
            context: a multiprocessing context of one start method.
            entry: what it runs, as "module:function"; the function gets the Boot.
            boot: all that the child gets.
            inherited: what it has to shed if it is forked.
        """
        self.boot = boot
        self.ready = False
        self.failure = ""
        """Its own word on why it cannot start, with the exit code it asked for."""
        self.failure_code = EXIT_CHILD
        self.started_at_s = 0.0
        self.pidfd = -1
        self._context = context
        make = cast("Callable[..., BaseProcess]", context.Process)  # type: ignore[attr-defined]
        self._process = make(
            target=live, args=(entry, boot, inherited), name=boot.title, daemon=False
        )
        self._pid = 0

    @property
    def pid(self) -> int:
        """Its process id, 0 before the start."""
        return self._pid

    def start(self) -> None:
        """Start it.

        Raises:
            OSError, EOFError: the system or the forkserver could not; it may be tried again with
                a new Child.
        """
        if self._context.get_start_method() != "fork":
            # Its start would let in, half-way through ours, the signals that are held back below.
            resource_tracker.ensure_running()
        with held_back(), _nameless_main():
            self._process.start()
        self._pid = self._process.pid or 0
        self.started_at_s = time.monotonic()
        try:
            self.pidfd = os.pidfd_open(self._pid)
        except OSError:
            # It is dead already, or there is no descriptor left to watch it by.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            raise

    @property
    def alive(self) -> bool:
        """Whether it runs (or has not been started)."""
        return not self.wait(0.0)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its death, at most so long. Returns whether it is dead."""
        if self.pidfd < 0:
            return self._pid != 0
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def terminate(self) -> None:
        """Send SIGTERM, which asks it to drain; harmless if it is dead."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; harmless if it is dead."""
        self._send(signal.SIGKILL)

    def exit_code(self) -> int | None:
        """The exit code of a dead child, negative for a signal; None where nobody knows it.

        Under forkserver the status comes by way of the forkserver: if that is gone, it is 255.
        """
        self._process.join(EXIT_STATUS_WAIT_S)
        code = self._process.exitcode
        with contextlib.suppress(ChildProcessError):
            # A dead forkserver's children may have become ours, and nobody else buries them.
            os.waitpid(self._pid, os.WNOHANG)
        return code

    def close(self) -> None:
        """Give the descriptors of a dead child back."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        with contextlib.suppress(ValueError):  # nobody knows its status: left to the collector
            self._process.close()

    def _send(self, number: signal.Signals) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Hide the main module, which spawn and forkserver would run again in every child.

    Children need nothing of the command line, and it would cost each of them 0.1 s and 10 MB.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
