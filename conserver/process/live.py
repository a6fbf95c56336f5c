"""A child's own first and last moments.

1. Closes what it inherited and does not own (fork), and puts the signals in order.
2. Calls the entry of its role, which gets its `Boot` and nothing else.
3. Sends the supervisor the reason of a failed start, and ends without waiting for any thread.
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

from conserver import failpoints
from conserver.config.model import keep_secrets
from conserver.errors import EXIT_CHILD, BootError
from conserver.process.boot import Boot
from conserver.process.descriptors import Inherited
from conserver.process.signals import STOP_SIGNALS, Stop, let_in
from conserver.telemetry import log
from conserver.telemetry.redact import keep_secret, secret_values

FAILURE_CHARS_MAX = 8000
"""A child's message about its failure is cut to this length: it has to fit into one packet."""


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
    settings = boot.settings
    log.configure(boot.role, boot.slot, level=settings.log_level, shape=settings.log_format)
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
