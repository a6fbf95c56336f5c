"""The first and last steps of a child process.

1. Closes the descriptors that a forked child inherited and does not own; installs signal handlers.
2. Calls the entry function of the child's role with its `Boot`.
3. Reports a failed start to the supervisor, and exits without waiting for any thread.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import cast

from setproctitle import setproctitle

from conserver.errors import EXIT_CHILD, BootError
from conserver.process import failpoints
from conserver.process.boot import Boot
from conserver.process.descriptors import Inherited
from conserver.process.imports import cheap_imports
from conserver.process.signals import STOP_SIGNALS, StopFlag, unblock_signals
from conserver.telemetry import log, traces
from conserver.telemetry.redact import hide_everywhere

FAILURE_CHARS_MAX = 8000
"""A failure message is cut to this length, so that it fits into one packet."""


def child_main(entry: str, boot: Boot, inherited: Inherited | None) -> None:
    """Run a child process from start to exit. Does not return.

    Args:
        entry: the function to run, as "module:function". It gets the Boot, and returns an exit code
            or None.
        boot: everything the child gets.
        inherited: the descriptors that a forked child must close; None under spawn and forkserver.
    """
    signal.set_wakeup_fd(-1)
    if inherited is not None:
        inherited.close_foreign(boot)
    setproctitle(boot.title)
    boot.stop = StopFlag()
    boot.stop.listen(STOP_SIGNALS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    unblock_signals()
    basics = boot.basics
    hide_everywhere(basics.secrets)
    log.configure(boot.role, boot.slot, level=basics.log_level, shape=basics.log_format)
    failpoints.arm(os.environ)
    traces.start(boot.role, boot.slot, boot.host)
    code = _run(entry, boot)
    traces.stop()
    _exit_now(code)


def _run(entry: str, boot: Boot) -> int:
    try:
        module, _, function = entry.partition(":")
        with cheap_imports():
            found = getattr(importlib.import_module(module), function)
        main = cast("Callable[[Boot], int | None]", found)
        return main(boot) or 0
    except BootError as error:
        _report_failure(boot, str(error), error.exit_code)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the supervisor reports every error
        log.get_logger().exception("child_failed")
        _report_failure(boot, f"{type(error).__name__}: {error}", EXIT_CHILD)
        return EXIT_CHILD


def _report_failure(boot: Boot, message: str, exit_code: int) -> None:
    boot.send("failed", message=message[:FAILURE_CHARS_MAX], exit_code=exit_code)


def _exit_now(code: int) -> None:
    """Exit without waiting for any thread.

    No work is left to do. A thread that hangs in a link or a client must not keep the process
    alive, or crash it during the interpreter's shutdown.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)
