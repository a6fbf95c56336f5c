"""A coordinator under test: the real one, with a real Redis and a scripted supervisor and workers.

`FakeHost` plays the supervisor (orders, state, lifeline). Its `FakeWorker`s claim and send messages
as real workers do, when the test says so. The coordinator runs in a thread of the test; where a
test must kill it, in a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import redis
from pydantic import SecretStr

from conserver.config.model import ChainConfig, Config
from conserver.config.settings import Settings
from conserver.coordinator.coordinator import Coordinator
from conserver.process import wakeup
from conserver.process.boot import Boot
from conserver.process.messages import pair, receive, send
from conserver.process.shared_status import SharedStatus
from conserver.queue import calls, keys, script
from conserver.queue.record import Claimed
from tests.helpers import LONG_S, eventually

LIMITS = calls.ClaimLimits()


def config_for(lists: Sequence[str]) -> Config:
    """One chain that does nothing with the items of these lists."""
    return Config(chains={"chain": ChainConfig(ingress_lists=list(lists))})


class FakeWorker:
    """A scripted worker in one slot."""

    def __init__(self, host: FakeHost, slot: int, end: socket.socket, status: SharedStatus) -> None:
        self.host = host
        self.slot = slot
        self.shared_status = status
        self.consumer = os.urandom(8).hex()
        self.number = 0
        self.empty_claims = 0
        self._end = end

    def send(self, message: bytes) -> None:
        self._end.send(message)

    def receives(self, timeout_s: float) -> bytes:
        """The next message of the coordinator; b"" if none comes in time."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return self._end.recv(64) if poll.poll(timeout_s * 1000) else b""

    def claim(self, most: int = 1, empty: bool = True) -> list[Claimed]:
        """Claim, and report to the coordinator as a worker with one thread does."""
        self.number += 1
        demands = [calls.Demand(name, most) for name in self.host.lists]
        call = calls.claim(self.host.id, self.consumer, self.number, empty, demands, LIMITS)
        claim = calls.read_claim(script.run(self.host.redis, call))
        assert not claim.void
        if claim.items:
            self.send(wakeup.BUSY)
        else:
            self.empty_claims += 1
            self.send(wakeup.IDLE)
        if claim.suspects:
            self.send(wakeup.SUSPECTS)
        return claim.items

    def settle(self, item: Claimed) -> None:
        """End an item: the coordinator sees only that it has left the in-flight hash."""
        assert self.host.redis.hdel(keys.inflight(self.consumer), item.token) == 1

    def holds(self) -> int:
        return int(self.host.redis.hlen(keys.inflight(self.consumer)))


class FakeHost:
    """One host: its Redis, its scripted workers, its coordinator."""

    def __init__(
        self, url: str, lists: Sequence[str] = ("q",), workers: int = 1, **settings: Any
    ) -> None:
        self.lists = list(lists)
        self.id = os.urandom(8).hex()
        self.redis: Any = redis.Redis.from_url(url)
        self.settings = Settings(redis_url=SecretStr(url), **settings)
        self.config = config_for(lists)
        self.shared_status = SharedStatus.create("coordinator")
        self.orders, self._orders_end = pair()
        self._pairs = [pair() for _ in range(workers)]
        self._statuses = [SharedStatus.create(f"worker-{slot}") for slot in range(1, workers + 1)]
        self._lifeline, self._lifeline_end = os.pipe2(os.O_CLOEXEC)
        self.workers = [
            FakeWorker(self, slot, self._pairs[slot - 1][1], self._statuses[slot - 1])
            for slot in range(1, workers + 1)
        ]
        self.received: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self._last_order = 0
        self._thread: threading.Thread | None = None
        self.process: Any = None

    # ---- the supervisor's part

    def start(self, ready: bool = True) -> FakeHost:
        """Start the coordinator in a thread, and register the workers."""

        def run() -> None:
            try:
                asyncio.run(Coordinator(self.boot()).run())
            except BaseException as error:  # raised in the test by `join`  # noqa: BLE001
                self.failure = error

        self._thread = threading.Thread(target=run, name="coordinator", daemon=True)
        self._thread.start()
        if ready:
            self.wait_for("ready")
            self.register_all()
        return self

    def start_process(self) -> FakeHost:
        """Start the coordinator in a process of its own, and register the workers."""
        from conserver.coordinator import main

        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=main, args=(self.boot(),), daemon=True)
        self.process.start()
        self.wait_for("ready")
        self.register_all()
        return self

    def boot(self) -> Boot:
        return Boot(
            role="coordinator",
            slot=0,
            workers=len(self.workers),
            host=self.id,
            consumer="",
            config=self.config,
            settings=self.settings,
            supervisor=self._orders_end,
            coordinator=None,
            worker_ends=[ends[0] for ends in self._pairs],
            status=self.shared_status,
            statuses=self._statuses,
            lifeline=self._lifeline,
        )

    def send(self, kind: str, **fields: Any) -> None:
        assert send(self.orders, {"type": kind, **fields})

    def order(self, kind: str, **fields: Any) -> int:
        self._last_order += 1
        self.send(kind, order=self._last_order, **fields)
        return self._last_order

    def acknowledged(self, number: int) -> bool:
        self._receive()
        return any(m["type"] == "acknowledged" and m["order"] == number for m in self.received)

    def wait_for(self, kind: str, timeout_s: float = LONG_S) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            self._receive()
            if self.failure is not None:
                raise self.failure
            return next((m for m in self.received if m["type"] == kind), None)

        found.__name__ = f"the coordinator sends {kind}"
        message = eventually(found, timeout_s)
        assert message is not None
        return message

    def register_all(self) -> None:
        for worker in self.workers:
            self.register(worker)
        self.send_children()

    def register(self, worker: FakeWorker) -> None:
        number = self.order(
            "register", consumer=worker.consumer, slot=worker.slot, lists=self.lists
        )
        eventually(lambda: self.acknowledged(number))

    def return_items(self, worker: FakeWorker, blame: str = "nobody", **fields: Any) -> int:
        return self.order("return", consumer=worker.consumer, blame={"kind": blame, **fields})

    def send_children(self, *missing: FakeWorker) -> None:
        living = [worker.consumer for worker in self.workers if worker not in missing]
        self.send("children", consumers=living)

    def send_state(self, pids: dict[int, int] | None = None, **supervisor: Any) -> None:
        workers = [
            {
                "slot": worker.slot,
                "pid": (pids or {}).get(worker.slot, 0),
                "consumer": worker.consumer,
                "state": "working",
                "restarts": 0,
                "backoff_s": 0,
                "started_at": 0.0,
            }
            for worker in self.workers
        ]
        told = {"pid": os.getpid(), "state": "running", "started_at": 1.0, **supervisor}
        self.send("state", supervisor=told, workers=workers)

    def die(self) -> None:
        """Close what only the supervisor holds, as its death does."""
        if self._lifeline_end >= 0:
            os.close(self._lifeline_end)
            self._lifeline_end = -1

    def drain(self, successor: bool = False, patient: bool = True) -> None:
        self.send("drain", successor=successor, patient=patient)

    def join(self, timeout_s: float = LONG_S) -> None:
        """Wait for the coordinator's end, and raise the error that ended it."""
        assert self._thread is not None
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the coordinator does not end"
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """End and close everything that is left."""
        self.die()
        if self._thread is not None:
            self._thread.join(60)
        if self.process is not None:
            self.process.kill()
            self.process.join(60)
            self.process.close()
        self.redis.close()
        os.close(self._lifeline)
        for status in (self.shared_status, *self._statuses):
            status.close()
        for end in (self.orders, self._orders_end, *(end for ends in self._pairs for end in ends)):
            end.close()

    def _receive(self) -> None:
        self.received += receive(self.orders)

    # ---- what Redis shows

    def registrations(self) -> dict[str, str]:
        fields = self.redis.hgetall(keys.host(self.id))
        return {
            name.decode().removeprefix("consumer:"): value.decode()
            for name, value in fields.items()
            if name.startswith(b"consumer:")
        }

    def beat(self) -> str:
        return (self.redis.hget(keys.host(self.id), "beat") or b"").decode()

    def heartbeats_on(self) -> None:
        """Wait for its next heartbeat in the shared status."""
        seen = self.shared_status.read().heartbeats
        eventually(lambda: self.shared_status.read().heartbeats != seen)

    def beats_on(self, times: int = 2, timeout_s: float = LONG_S) -> None:
        """Wait for so many more heartbeats in Redis."""
        for _ in range(times):
            seen = self.beat()
            eventually(lambda seen=seen: self.beat() != seen, timeout_s)  # type: ignore[misc]

    def status(self) -> dict[str, Any]:
        fields = self.redis.hgetall(keys.host(self.id))
        named = {name.decode(): value for name, value in fields.items()}
        return {k: orjson.loads(v) if k in ("workers", "lists") else v for k, v in named.items()}

    def waiting(self) -> list[str]:
        """The BLMOVEs that wait in Redis now, by address."""
        clients = self.redis.client_list()
        return [c["addr"] for c in clients if c["cmd"] == "blmove" and "b" in c["flags"]]

    def everywhere(self, name: str = "q") -> int:
        """How many items of a list there are, in all places together."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.llen(name).llen(keys.returned(name)).llen(keys.suspects(name))
        pipe.zcard(keys.parked(name)).llen(keys.dead_letters(name))
        for worker in self.workers:
            pipe.hlen(keys.inflight(worker.consumer))
        return sum(pipe.execute())


@contextlib.contextmanager
def fake_host(url: str, **arguments: Any) -> Iterator[FakeHost]:
    """A host whose coordinator is not started yet. Everything is ended and closed at the end."""
    made = FakeHost(url, **arguments)
    try:
        yield made
    finally:
        made.close()


def stays(predicate: Any, for_s: float) -> None:
    """Assert that something stays true for so long."""
    deadline_s = time.monotonic() + for_s
    while time.monotonic() < deadline_s:
        assert predicate()
        select.select([], [], [], 0.01)
