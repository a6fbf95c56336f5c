"""One child: its life as the supervisor sees it, and its first moments as itself.

The supervisor's side (`Child`):
1. starts it, by whatever start method, with its signals held back until it can take them;
2. knows its death by its pid alone. Under forkserver the child is not ours, and multiprocessing's
   sentinel fires when the forkserver dies, while the child works on;
3. kills it through its pidfd, which can never hit a stranger that got its number.

The child's side (`live`):
1. closes what it inherited and does not own (fork), and puts the signals in order;
2. calls the entry of its role, which gets its `Boot` and nothing else;
3. tells the supervisor why it failed, if it did, and ends without waiting for any thread.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import select
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

from setproctitle import setproctitle

from conserver import failpoints, log
from conserver.boot import Boot
from conserver.config import keep_secrets
from conserver.errors import EXIT_CHILD, BootError
from conserver.page import Page
from conserver.redact import keep_secret, secret_values
from conserver.signals import STOP_SIGNALS, Stop, held_back, let_in

__all__ = [
    "Boot",
    "Child",
    "Inherited",
    "Stop",
    "context_for",
    "hold_standard_descriptors",
    "live",
    "open_descriptors",
]

EXIT_STATUS_WAIT_S = 1.0
"""How long a forkserver may take to tell the exit status of a child that is dead."""

FAILURE_CHARS_MAX = 8000
"""A child's message about its failure is cut here: it has to fit into one packet."""


def context_for(method: str) -> tuple[str, BaseContext]:
    """The start method by its name, and its context; an empty name is the platform's default.

    multiprocessing's own global default is neither read nor set.
    """
    name = method or multiprocessing.get_all_start_methods()[0]
    return name, multiprocessing.get_context(name)


def open_descriptors() -> frozenset[int]:
    """The descriptors that this process has open now."""
    listed = list(Path("/proc/self/fd").iterdir())
    return frozenset(number for number in (int(path.name) for path in listed) if _is_open(number))


def hold_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1 and 2 that is closed.

    Else one of our sockets would get its number, and the log would be written into it.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):
            # The kernel gives the lowest number that is free. Children get it through exec too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _is_open(descriptor: int) -> bool:
    """The descriptor that the listing itself had is in the list, and closed again."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Inherited:
    """What a forked child finds open: descriptors from before the household, and the household's.

    The former stay (the log, whatever a library holds), the latter go, except the child's own.
    """

    from_before: frozenset[int]
    pages: tuple[Page, ...]

    def shed(self, boot: Boot) -> None:
        """Close every descriptor and mapping of the household that is not this child's."""
        own_pages = [os.dup(page.fd) for page in (boot.page, *boot.pages)]
        for page in self.pages:
            page.close()
        keep = {channel.fileno() for channel in boot.channels} | {boot.lifeline, *own_pages}
        # The sockets and selectors that had these descriptors live on, unused, in the frames of
        # the supervisor below us; nothing will ever collect them, so none closes a number twice.
        for descriptor in open_descriptors() - self.from_before - keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        boot.page, *boot.pages = (Page(descriptor) for descriptor in own_pages)


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


def live(entry: str, boot: Boot, inherited: Inherited | None) -> None:
    """A child's whole life: prepare, run the entry, end. Does not return."""
    signal.set_wakeup_fd(-1)
    if inherited is not None:
        inherited.shed(boot)
    setproctitle(boot.title)
    boot.stop = Stop()
    boot.stop.listen(STOP_SIGNALS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    let_in()
    keep_secret(secret_values(boot.settings))
    keep_secrets(boot.config)
    log.configure(boot.settings, boot.role, boot.slot)
    failpoints.arm(os.environ)
    _leave(_run(entry, boot))


def _run(entry: str, boot: Boot) -> int:
    try:
        module, _, function = entry.partition(":")
        main = cast(
            "Callable[[Boot], int | None]", getattr(importlib.import_module(module), function)
        )
        return main(boot) or 0
    except BootError as error:
        _tell_failure(boot, str(error), error.exit_code)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - it says why it ends, whatever the reason is.
        log.get_logger().exception("child_failed")
        _tell_failure(boot, f"{type(error).__name__}: {error}", EXIT_CHILD)
        return EXIT_CHILD


def _tell_failure(boot: Boot, message: str, exit_code: int) -> None:
    boot.tell("failed", message=message[:FAILURE_CHARS_MAX], exit_code=exit_code)


def _leave(code: int) -> None:
    """End at once, without waiting for any thread.

    What matters was settled before. A thread that hangs in a link or a client must not keep the
    process, nor crash it while the interpreter is taken apart.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)
