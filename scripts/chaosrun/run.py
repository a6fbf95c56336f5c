"""One run: the town, the producer, the disturbances, the end, the account."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from chaosrun.account import Account, draw_up, settle
from chaosrun.mischief import Mischief
from chaosrun.places import PLACES
from chaosrun.plan import LEASE_S, STALL_S, Step, draw
from chaosrun.town import Host, Town
from chaosrun.work import SPEECH, Ledger, config, items
from conserver.errors import EXIT_CHILD, EXIT_UNAVAILABLE

STORAGE_TIMEOUT_S = 3.0
PUSH_RETRY_S = 0.05
STOP_S = 30.0
# Start method and settings of the first, second and third host.
HOSTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("fork", {"CONSERVER_VCON_CONCURRENCY": "2"}),
    ("forkserver", {"CONSERVER_PARALLEL_STORAGE": "false", "CONSERVER_PARKED_CAP": "200"}),
    ("spawn", {"CONSERVER_VCON_CONCURRENCY": "4", "CONSERVER_MAX_ITEMS_PER_WORKER": "300"}),
)
FINDINGS_SHOWN = 20
LINES_SHOWN = 30


@dataclass(frozen=True)
class Options:
    """What a run is made of."""

    items: int
    disturbances: int
    seed: int
    hosts: int = 2
    workers: int = 2
    storages: tuple[str, ...] = tuple(PLACES)
    keep: Path | None = None  # where logs and data stay; else they are deleted
    speech: int = SPEECH  # of ten thousand items are calls
    metrics_port: int = 0  # of host 1, where metrics are wanted; of host 2 the next, and so on


class Producer:
    """Pushes items in a thread, up to a quota that rises with the run."""

    def __init__(self, town: Town, options: Options) -> None:
        self.ledger = Ledger()
        self._town = town
        self._items = items(options.items, options.seed, options.speech)
        self._quota = 0
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="producer", daemon=True)
        self._thread.start()

    def allow(self, quota: int | None) -> None:
        """So many items in all may be pushed by now; None: all that there are."""
        with self._wake:
            self._quota = 1 << 62 if quota is None else quota
            self._wake.notify()

    def finish(self) -> Ledger:
        """Push the rest. Returns what was pushed."""
        self.allow(None)
        self._thread.join()
        return self.ledger

    def _work(self) -> None:
        client = self._town.client()
        for push, peculiarity, note in self._items:
            with self._wake:
                while self._quota <= self.ledger.items:
                    self._wake.wait()
            while True:
                try:
                    push.send(client)
                    break
                except redis.RedisError:
                    # Redis is one of those that are broken; what was pushed is not pushed again.
                    time.sleep(PUSH_RETRY_S)
            self.ledger.enter(push, peculiarity, note)
        client.close()


def run(options: Options, log: Callable[[str], None]) -> dict[str, Any]:
    """One run. Returns its account; "good" says whether nothing was lost or doubled."""
    began_s = time.monotonic()
    with ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="conserver-chaos-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        places = [PLACES[name](STORAGE_TIMEOUT_S) for name in options.storages]
        town = stack.enter_context(Town(folder, places))
        _start_hosts(town, options)
        log(f"{len(town.hosts)} hosts are ready")
        mischief = Mischief(town, log)
        producer = Producer(town, options)
        _disturb(options, mischief, producer)
        mischief.end()
        ledger = producer.finish()
        log(f"{ledger.items} items are pushed and nothing is broken any more")
        settle(town, mischief.tend, log)
        faults = _stop_hosts(town.hosts)
        faults += _unforeseen(mischief.ended)
        account = draw_up(town, ledger)
        account.findings += faults
        _explain(account, town.hosts, log)
        return {
            "good": account.good,
            "seed": options.seed,
            "items": ledger.items,
            **{name: value for name, value in asdict(account).items() if name != "findings"},
            "findings": len(account.findings),
            "boots_failed": mischief.ended.total(),
            "disturbances": dict(sorted(mischief.done.items())),
            "seconds": round(time.monotonic() - began_s, 1),
        }


def plan_of(options: Options) -> list[Step]:
    """The disturbances of a run."""
    return draw(
        options.disturbances,
        options.seed,
        options.hosts,
        options.workers,
        options.storages,
        with_speech=options.speech > SPEECH,
    )


def _start_hosts(town: Town, options: Options) -> None:
    """Every host is another one, as far as settings go: what is true must be true for all."""
    common = {
        "CONSERVER_LEASE_S": str(LEASE_S),
        "CONSERVER_STALL_TIMEOUT_S": str(STALL_S),
        "CONSERVER_BOOT_TIMEOUT_S": "60",  # a machine that is busy with all this imports slowly
        "CONSERVER_SHUTDOWN_TIMEOUT_S": "5",
        "CONSERVER_LOG_FORMAT": "json",
    }
    chosen = config(town.storages())
    for number in range(options.hosts):
        method, environment = HOSTS[number % len(HOSTS)]
        if options.metrics_port:
            port = str(options.metrics_port + number)
            environment = {**environment, "CONSERVER_METRICS_PORT": port}
        town.host(chosen, method=method, workers=options.workers, **common, **environment)
    for host in town.hosts:
        host.daemon.start()


def _disturb(options: Options, mischief: Mischief, producer: Producer) -> None:
    plan = plan_of(options)
    for number, step in enumerate(plan, 1):
        producer.allow(options.items * number // (len(plan) + 1))
        mischief.tend()
        mischief.begin(step)
        time.sleep(step.pause_s)


def _stop_hosts(hosts: Sequence[Host]) -> list[str]:
    """Stop all hosts in order. Returns what was wrong with that."""
    faults = []
    for host in hosts:
        code = host.daemon.stop(STOP_S)
        if code != 0:
            faults.append(f"{host.name} ended with exit code {code}")
    return faults


def _unforeseen(ended: Counter[int]) -> list[str]:
    """A host may end by itself if its first child was killed or Redis was away at its boot."""
    codes = [code for code in ended if code not in (EXIT_CHILD, EXIT_UNAVAILABLE)]
    return [f"a host ended by itself with exit code {code}" for code in codes]


def _explain(account: Account, hosts: Sequence[Host], log: Callable[[str], None]) -> None:
    """Say what was found, and what the hosts have logged about it."""
    for finding in account.findings[:FINDINGS_SHOWN]:
        log(f"FOUND: {finding}")
        name = finding.partition(" ")[0].encode()
        told = [
            (line, host.name)
            for host in hosts
            for line in host.daemon.log_file.read_bytes().splitlines()
            if len(name) > 30 and name in line
        ]
        for line, host_name in sorted(told)[:LINES_SHOWN]:
            log(f"    {host_name} {line[:500].decode(errors='replace')}")
