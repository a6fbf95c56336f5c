"""The child process of a coordinator that does the run of a schedule.

The coordinator writes a pickled Task to this process's standard input, and keeps the pipe open. The
process gives up the run if the pipe closes (the coordinator is gone), on SIGTERM, and after a
temporary error, such as a storage that is away. Another host takes over the run after
its lease.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading

from setproctitle import setproctitle

from conserver.config.model import hide_secrets_of
from conserver.errors import ConserverError
from conserver.operations.connection import redis_client
from conserver.operations.scheduled import LostError, Task, carry_out
from conserver.process.signals import STOP_SIGNALS, unblock_signals
from conserver.queue.schedules import EXIT_GIVEN_UP
from conserver.telemetry import log
from conserver.telemetry.redact import hide_everywhere, secret_values


def main() -> None:
    """Carry out the task, then exit: with 0 if the run has ended, else with EXIT_GIVEN_UP."""
    task: Task = pickle.load(sys.stdin.buffer)
    settings = task.settings
    setproctitle(f"conserver: schedule {task.name}")
    hide_everywhere(secret_values(settings))
    hide_secrets_of(task.config)
    log.configure("schedule", level=settings.log_level, shape=settings.log_format)
    stopping = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stopping.set())
    unblock_signals()

    def watch() -> None:
        sys.stdin.buffer.read()
        stopping.set()

    threading.Thread(target=watch, daemon=True).start()
    code = _guarded(task, stopping)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # sys.exit would wait for a hanging thread of a storage's client


def _guarded(task: Task, stopping: threading.Event) -> int:
    try:
        with redis_client(task.settings) as client:
            return carry_out(client, task, stopping)
    except LostError:
        log.get_logger().info("schedule_run_lost", schedule=task.name, run=task.run)
    except ConserverError as error:
        log.get_logger().warning("schedule_run_waits", schedule=task.name, error=str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is tried again
        log.get_logger().exception(
            "schedule_run_broke", schedule=task.name, error=type(error).__name__
        )
    return EXIT_GIVEN_UP
