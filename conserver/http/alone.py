"""`conserver api`: the API without a supervisor, in one or several processes (--workers).

With several processes, all accept connections from one socket. Their parent serves no requests: it
replaces processes that die, and ends all of them on SIGTERM or SIGINT. It forks while it has no
thread other than the main one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import EXIT_CHILD, BootError
from conserver.http import server
from conserver.operations import tokens
from conserver.process.shared_status import SharedStatus
from conserver.telemetry import log, traces

RESTART_S = 1.0
"""The pause before the parent replaces a process that died."""

_STOPS = (signal.SIGTERM, signal.SIGINT)


def run(settings: Settings, config: Config, workers: int) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code.

    Raises:
        BootError: the address cannot be used, or the extra `api` is not installed.
        ConfigError: the tokens cannot be read.
    """
    server.check_extra()
    keyring = tokens.keyring_of(settings)
    listener = server.bind(settings, keyring)
    if workers > 1:
        return _Parent(settings, config, listener, workers).run()
    return _serve(settings, config, listener, [SharedStatus.create("api")])


def _serve(
    settings: Settings, config: Config, listener: socket.socket, statuses: Sequence[SharedStatus]
) -> int:
    traces.start("api", 0, "")
    keyring = tokens.keyring_of(settings)
    serving = server.serve(settings, config, keyring, statuses=statuses)
    server.settle(serving)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, server.begin_stop, serving)
        host, port, *_ = listener.getsockname()
        log.get_logger().info("api_listens", host=host, port=port)
        await server.run(serving, listener)
        return 0

    try:
        return server.run_loop(main())
    finally:
        traces.stop()


class _Parent:
    """The parent of the processes of `conserver api --workers N`."""

    def __init__(
        self, settings: Settings, config: Config, listener: socket.socket, workers: int
    ) -> None:
        self._settings, self._config, self._listener = settings, config, listener
        self._workers = workers
        # Each process counts its metrics in its shared status; its replacement goes on counting.
        self._statuses = [SharedStatus.create(f"api-{number}") for number in range(workers)]
        self._pids: dict[int, int] = {}
        """pid -> index in `_statuses`."""
        self._stopping = False

    def run(self) -> int:
        for number in _STOPS:
            signal.signal(number, self._stop)
        while not self._stopping or self._pids:
            while not self._stopping and len(self._pids) < self._workers:
                self._start()
            try:
                pid, status = os.wait()
            except ChildProcessError:
                continue
            self._pids.pop(pid, None)
            if not self._stopping:
                code = os.waitstatus_to_exitcode(status)
                log.get_logger().error("api_process_died", pid=pid, exit_code=code)
                time.sleep(RESTART_S)
        self._listener.close()
        return 0

    def _start(self) -> None:
        # A stop between the fork and the entry in `_pids` would miss the new process.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            if self._stopping:
                return
            place = min(set(range(self._workers)) - set(self._pids.values()))
            pid = os.fork()
            if pid == 0:
                self._child(place)
            self._pids[pid] = place
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    def _child(self, place: int) -> None:
        code = EXIT_CHILD
        try:
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            own = self._statuses[place]
            statuses = [own, *(one for one in self._statuses if one is not own)]
            code = _serve(self._settings, self._config, self._listener, statuses)
        except BootError as error:
            log.get_logger().error("api_cannot_start", reason=str(error))
        except Exception:  # noqa: BLE001 - a forked child must not return to its parent's code.
            log.get_logger().exception("api_process_failed")
        finally:
            os._exit(code)

    def _stop(self, *_: Any) -> None:
        self._stopping = True
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):  # It has ended already.
                os.kill(pid, signal.SIGTERM)
