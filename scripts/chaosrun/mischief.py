"""Carries out the steps of a plan against a town.

Each method named after a kind (blanks as underscores) breaks something, waits as long as the step
says, and mends it. Steps run side by side where their victims differ: a worker dies while Redis
stands still. What a host's end leaves to be started again is started by `tend`, because a killed
supervisor needs a while until the last of its children is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from servers import Server

from chaosrun.plan import Step
from chaosrun.town import Host, Town
from conserver.queue import script
from tests.helpers import eventually

FILLED_BYTES = 1_048_576
CUT_WAIT_S = 2.0
"""How long a cut waits for its script before it is taken back."""

STALLED_S = 0.2
"""Until a worker whose calls are held has one on its way."""

UNPROTECT_S = 60.0
AT_ONCE = 3
FORKSERVER = b"multiprocessing.forkserver"
HOST_GONE_S = 60.0


class Mischief:
    """One per run; `done` counts what was begun, by kind."""

    def __init__(self, town: Town, log: Callable[[str], None]) -> None:
        self._town = town
        self._log = log
        self._to_start: list[Host] = []
        self._victims: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._threads = ThreadPoolExecutor(AT_ONCE, "mischief")
        self._begun: list[Future[None]] = []
        self.done: Counter[str] = Counter()
        self.ended: Counter[int] = Counter()
        """Exit codes of hosts that ended by themselves."""

    def begin(self, step: Step) -> None:
        """Begin a step, as soon as nothing else is done to its victim.

        Raises whatever an earlier step has failed with: that is an error of ours.
        """
        for ended in [future for future in self._begun if future.done()]:
            self._begun.remove(ended)
            ended.result()
        victim = self._victims[step.victim]
        victim.acquire()
        self.done[step.kind] += 1
        self._begun.append(self._threads.submit(self._carry_out, step, victim))

    def tend(self) -> bool:
        """Start again the hosts that have ended, once nothing is left of them. Whether all run."""
        gone = [host for host in self._town.hosts if not host.runs]
        for host in gone:
            code = host.exit_code
            if host in self._to_start:
                self._to_start.remove(host)
            else:
                # As an init would. A child that was killed at its first start ends a supervisor.
                self._log(f"{host.name} ended with exit code {code}")
                self.ended[code] += 1
            host.daemon.launch()
        return not gone and not self._to_start

    def end(self) -> None:
        """Wait until every step has mended what it broke, and all hosts run."""
        self._threads.shutdown()
        for future in self._begun:
            future.result()
        eventually(self.tend, HOST_GONE_S)

    def _carry_out(self, step: Step, victim: threading.Lock) -> None:
        try:
            self._log(str(step))
            getattr(self, "_" + step.kind.replace(" ", "_"))(step)
        finally:
            victim.release()

    def _host(self, step: Step) -> Host:
        return self._town.hosts[step.host]

    # Hosts.

    def _kill_worker(self, step: Step) -> None:
        _send(self._host(step), f"worker {step.slot} ", signal.SIGKILL)

    def _kill_coordinator(self, step: Step) -> None:
        _send(self._host(step), "coordinator", signal.SIGKILL)

    def _kill_coordinator_and_worker(self, step: Step) -> None:
        self._kill_coordinator(step)
        self._kill_worker(step)

    def _kill_transcriber(self, step: Step) -> None:
        _send(self._host(step), "transcriber", signal.SIGKILL)

    def _pause_transcriber(self, step: Step) -> None:
        self._pause(self._host(step), "transcriber", step.lasts_s)

    def _kill_supervisor(self, step: Step) -> None:
        self._restart_if(_send(self._host(step), "supervisor", signal.SIGKILL), step)

    def _kill_host(self, step: Step) -> None:
        host = self._host(step)
        if host.daemon.process is not None:
            host.daemon.kill_everybody()
            self._restart_if(True, step)

    def _stop_host(self, step: Step) -> None:
        self._restart_if(_send(self._host(step), "supervisor", signal.SIGTERM), step)

    def _restart_if(self, hit: object, step: Step) -> None:
        """A host whose supervisor has no title yet was not hit, and does not end."""
        host = self._host(step)
        if hit and host not in self._to_start:
            self._to_start.append(host)

    def _reload_host(self, step: Step) -> None:
        _send(self._host(step), "supervisor", signal.SIGHUP)

    def _pause_worker(self, step: Step) -> None:
        self._pause(self._host(step), f"worker {step.slot} ", step.lasts_s)

    def _pause_coordinator(self, step: Step) -> None:
        self._pause(self._host(step), "coordinator", step.lasts_s)

    def _pause_supervisor(self, step: Step) -> None:
        self._pause(self._host(step), "supervisor", step.lasts_s)

    def _kill_forkserver(self, step: Step) -> None:
        daemon = self._host(step).daemon
        for pid in daemon.everybody() if daemon.process is not None else []:
            with contextlib.suppress(OSError):
                if FORKSERVER in (Path("/proc") / str(pid) / "cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def _pause(self, host: Host, title: str, seconds: float) -> None:
        pids = _send(host, title, signal.SIGSTOP)
        time.sleep(seconds)
        _signal_all(pids, signal.SIGCONT)

    def _pause_host(self, step: Step) -> None:
        host = self._host(step)
        pids = host.daemon.everybody() if host.daemon.process is not None else []
        _signal_all(pids, signal.SIGSTOP)
        time.sleep(step.lasts_s)
        _signal_all(pids, signal.SIGCONT)

    # The network between a host and Redis.

    def _cut_host(self, step: Step) -> None:
        self._host(step).proxy.cut_all()

    def _cut_before(self, step: Step) -> None:
        self._cut(step, self._host(step).proxy.cut_before)

    def _cut_after(self, step: Step) -> None:
        self._cut(step, self._host(step).proxy.cut_after)

    def _cut(self, step: Step, order: Callable[[bytes, int], None]) -> None:
        proxy = self._host(step).proxy
        wanted = proxy.cuts_done + step.times
        order(script.load(step.script).sha.encode(), step.times)
        deadline_s = time.monotonic() + CUT_WAIT_S
        while proxy.cuts_done < wanted and time.monotonic() < deadline_s:
            time.sleep(0.02)
        proxy.forget_cuts()

    def _stall_host(self, step: Step) -> None:
        proxy = self._host(step).proxy
        proxy.stall()
        time.sleep(step.lasts_s)
        proxy.flow()

    def _slow_host(self, step: Step) -> None:
        proxy = self._host(step).proxy
        proxy.slow(0.05)
        time.sleep(step.lasts_s)
        proxy.flow()

    def _kill_stalled_worker(self, step: Step) -> None:
        """Its calls are on their way when it dies: they come when others have its items."""
        host = self._host(step)
        host.proxy.stall()
        time.sleep(STALLED_S)
        self._kill_worker(step)
        time.sleep(step.lasts_s)
        host.proxy.flow()

    # Redis.

    def _restart_redis(self, step: Step) -> None:
        self._down_and_up(self._town.redis, self._town.redis.stop, step.lasts_s)

    def _kill_redis(self, step: Step) -> None:
        self._down_and_up(self._town.redis, self._town.redis.kill, step.lasts_s)

    def _pause_redis(self, step: Step) -> None:
        self._freeze(self._town.redis, step.lasts_s)

    def _fill_redis(self, step: Step) -> None:
        """As little memory as it has now: whatever would take more is refused."""
        with self._town.client() as client:
            client.config_set("maxmemory", FILLED_BYTES)
            time.sleep(step.lasts_s)
            client.config_set("maxmemory", 0)

    def _forget_scripts(self, _step: Step) -> None:
        with self._town.client() as client:
            client.script_flush()

    # Storages.

    def _restart_storage(self, step: Step) -> None:
        server = self._town.places[step.storage].server
        self._down_and_up(server, server.stop, step.lasts_s)

    def _kill_storage(self, step: Step) -> None:
        server = self._town.places[step.storage].server
        self._down_and_up(server, server.kill, step.lasts_s)

    def _pause_storage(self, step: Step) -> None:
        self._freeze(self._town.places[step.storage].server, step.lasts_s)

    def _cut_storage(self, step: Step) -> None:
        for _ in range(step.times):
            self._town.proxies[step.storage].cut_all()
            time.sleep(0.1)

    def _stall_storage(self, step: Step) -> None:
        proxy = self._town.proxies[step.storage]
        proxy.stall()
        time.sleep(step.lasts_s)
        proxy.flow()

    def _slow_storage(self, step: Step) -> None:
        proxy = self._town.proxies[step.storage]
        proxy.slow(0.05)
        time.sleep(step.lasts_s)
        proxy.flow()

    def _refuse_storage(self, step: Step) -> None:
        proxy = self._town.proxies[step.storage]
        proxy.refuse()
        time.sleep(step.lasts_s)
        proxy.start()

    def _cut_storage_after(self, step: Step) -> None:
        proxy = self._town.proxies[step.storage]
        proxy.cut_after(b"", step.times)
        time.sleep(CUT_WAIT_S)
        proxy.forget_cuts()

    def _protect_storage(self, step: Step) -> None:
        """One that knows no such thing refuses to listen."""
        place = self._town.places[step.storage]
        try:
            protected = place.protect(True)
        except Exception:  # noqa: BLE001 - its server is just coming back
            protected = False
        if not protected:
            self._refuse_storage(step)
            return
        time.sleep(step.lasts_s)
        eventually(lambda: _done(place.protect), UNPROTECT_S)

    @staticmethod
    def _down_and_up(server: Server, down: Callable[[], None], seconds: float) -> None:
        down()
        time.sleep(seconds)
        server.start()

    @staticmethod
    def _freeze(server: Server, seconds: float) -> None:
        server.pause()
        time.sleep(seconds)
        server.resume()


def _send(host: Host, title: str, number: signal.Signals) -> list[int]:
    """Send a signal to the processes of a host with this title; there may be none just now."""
    pids = host.daemon.pids(title) if host.daemon.process is not None else []
    _signal_all(pids, number)
    return pids


def _done(protect: Callable[[bool], bool]) -> bool:
    """Whether the protection could be taken back."""
    try:
        protect(False)
    except Exception:  # noqa: BLE001 - its server comes back when another step has ended
        return False
    return True


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
