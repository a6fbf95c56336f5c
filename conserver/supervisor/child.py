"""One child process: start, death, exit code, kill.

1. Starts the child by any start method. Its signals are blocked until its handlers are installed.
2. Detects the child's death by its pidfd alone. Under forkserver the child is not the supervisor's
   own child, and multiprocessing's sentinel also fires if only the forkserver dies.
3. Kills the child through its pidfd. The pid might already belong to another process.
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
from conserver.process import memory
from conserver.process.boot import Boot
from conserver.process.child_main import child_main
from conserver.process.descriptors import Inherited
from conserver.process.signals import signals_blocked

EXIT_STATUS_WAIT_S = 1.0
"""How long the forkserver may take to report the exit status of a dead child."""


def context_for(method: str) -> tuple[str, BaseContext]:
    """The name and the multiprocessing context of a start method; "" is the platform's default.

    multiprocessing's global default is neither read nor set.
    """
    name = method or multiprocessing.get_all_start_methods()[0]
    return name, multiprocessing.get_context(name)


class Child:
    """One child process, from its start to its exit code. A Child is started once."""

    def __init__(
        self, context: BaseContext, entry: str, boot: Boot, inherited: Inherited | None
    ) -> None:
        """
        Args:
            context: the multiprocessing context of a start method.
            entry: the function that the child runs, as "module:function"; it gets the Boot.
            boot: everything the child gets.
            inherited: the descriptors that a forked child must close; None without a fork.
        """
        self.boot = boot
        self.ready = False
        self.failure = ""
        """Why the child cannot start, as it has reported."""
        self.failure_code = EXIT_CHILD
        """The exit code that the child has reported with `failure`."""
        self.started_at_s = 0.0
        """When the child was started, by time.monotonic()."""
        self.pidfd = -1
        self._context = context
        make = cast("Callable[..., BaseProcess]", context.Process)  # type: ignore[attr-defined]
        self._process = make(
            target=child_main, args=(entry, boot, inherited), name=boot.title, daemon=False
        )
        self._pid = 0

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._pid

    def start(self) -> None:
        """Start the process.

        Raises:
            OSError, EOFError: the kernel or the forkserver could not create the process. Try again
                with a new Child.
        """
        if self._context.get_start_method() != "fork":
            # Otherwise multiprocessing starts the tracker inside the block below, and unblocks the
            # signals there.
            resource_tracker.ensure_running()
        spawned_with = memory.environment(self.boot.environment)
        with signals_blocked(), _hidden_main_module(), spawned_with:
            self._process.start()
        self._pid = self._process.pid or 0
        self.started_at_s = time.monotonic()
        try:
            self.pidfd = os.pidfd_open(self._pid)
        except OSError:
            # The child is dead already, or this process has no descriptor left for the pidfd.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            raise

    def wait(self, timeout_s: float) -> bool:
        """Wait for the child's death for at most timeout_s. Returns whether it is dead."""
        if self.pidfd < 0:
            return self._pid != 0
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def kill(self) -> None:
        """Send SIGKILL. Does nothing if the child is dead."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def exit_code(self) -> int | None:
        """The exit code of a dead child, negative for a signal; None if it cannot be known.

        The forkserver reports the status of its children. If the forkserver is dead, the code is
        255.
        """
        self._process.join(EXIT_STATUS_WAIT_S)
        code = self._process.exitcode
        with contextlib.suppress(ChildProcessError):
            # After the death of a forkserver its children may become children of this process, and
            # must be reaped here.
            os.waitpid(self._pid, os.WNOHANG)
        return code

    def close(self) -> None:
        """Release the descriptors of a dead child."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        with contextlib.suppress(ValueError):  # raised if the exit code is unknown
            self._process.close()


@contextlib.contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Hide `__main__`. Otherwise spawn and forkserver import it again in every child.

    `__main__` is the command line. A child does not need it, and it costs 0.1 s and 10 MB.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
