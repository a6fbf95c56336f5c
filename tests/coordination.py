"""A coordinator under test: the real one against a real Redis, with a supervisor and workers of
straw.

`House` plays the supervisor (orders, state, lifeline) and hands out `Straw` workers, which claim
and speak as the real ones do, when the test tells them to. The coordinator runs in a thread of the
test, or, where a test must kill it, in a process.
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
from conserver.queue import calls, script
from conserver.queue.record import Claimed
from tests.helpers import eventually

LIMITS = calls.ClaimLimits()


def config_for(lists: Sequence[str]) -> Config:
    """One chain that does nothing with the items of these lists."""
    return Config(chains={"chain": ChainConfig(ingress_lists=list(lists))})


class Straw:
    """A worker of straw in one slot."""

    def __init__(self, house: House, slot: int, end: socket.socket, status: SharedStatus) -> None:
        self.house = house
        self.slot = slot
        self.shared_status = status
        self.consumer = os.urandom(8).hex()
        self.number = 0
        self.empty_claims = 0
        self._end = end

    def say(self, word: bytes) -> None:
        self._end.send(word + self.consumer.encode())

    def hears(self, timeout_s: float) -> bytes:
        """The next word of the coordinator, or b"" if none comes in time."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return self._end.recv(64) if poll.poll(timeout_s * 1000) else b""

    def claim(self, most: int = 1, empty: bool = True) -> list[Claimed]:
        """Claim, and tell the coordinator how it went."""
        self.number += 1
        demands = [calls.Demand(name, most, 3) for name in self.house.lists]
        call = calls.claim(self.house.host, self.consumer, self.number, empty, demands, LIMITS)
        claim = calls.read_claim(script.run(self.house.redis, call))
        assert not claim.void
        if claim.items:
            self.say(wakeup.BUSY)
        else:
            self.empty_claims += 1
            self.say(wakeup.IDLE)
        if claim.suspects:
            self.say(wakeup.SUSPECTS)
        return claim.items

    def settle(self, item: Claimed) -> None:
        """End an item: it leaves the hash, which is all that the coordinator can see of it."""
        assert self.house.redis.hdel(calls.inflight_key(self.consumer), item.token) == 1

    def holds(self) -> int:
        return int(self.house.redis.hlen(calls.inflight_key(self.consumer)))


class House:
    """One host: its Redis, its straw workers, its coordinator."""

    def __init__(
        self, url: str, lists: Sequence[str] = ("q",), workers: int = 1, **settings: Any
    ) -> None:
        self.lists = list(lists)
        self.host = os.urandom(8).hex()
        self.redis: Any = redis.Redis.from_url(url)
        self.settings = Settings(redis_url=SecretStr(url), **settings)
        self.config = config_for(lists)
        self.shared_status = SharedStatus.create("coordinator")
        self.orders, self._orders_end = pair()
        self._lines = [pair() for _ in range(workers)]
        self._statuses = [SharedStatus.create(f"worker-{slot}") for slot in range(1, workers + 1)]
        self._lifeline, self._lifeline_end = os.pipe2(os.O_CLOEXEC)
        self.workers = [
            Straw(self, slot, self._lines[slot - 1][1], self._statuses[slot - 1])
            for slot in range(1, workers + 1)
        ]
        self.told: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self._last_order = 0
        self._thread: threading.Thread | None = None
        self.process: Any = None

    # The supervisor's part.

    def start(self, ready: bool = True) -> House:
        """Start the coordinator in a thread, and register the workers."""

        def live() -> None:
            try:
                asyncio.run(Coordinator(self.boot()).run())
            except BaseException as error:  # handed to the test by `end`  # noqa: BLE001
                self.failure = error

        self._thread = threading.Thread(target=live, name="coordinator", daemon=True)
        self._thread.start()
        if ready:
            self.wait_for("ready")
            self.register_all()
        return self

    def start_process(self) -> House:
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
            host=self.host,
            consumer="",
            config=self.config,
            settings=self.settings,
            supervisor=self._orders_end,
            coordinator=None,
            worker_ends=[line[0] for line in self._lines],
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
        self._hear()
        return any(m["type"] == "acknowledged" and m["order"] == number for m in self.told)

    def wait_for(self, kind: str, timeout_s: float = 10) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            self._hear()
            if self.failure is not None:
                raise self.failure
            return next((m for m in self.told if m["type"] == kind), None)

        found.__name__ = f"the coordinator says {kind}"
        message = eventually(found, timeout_s)
        assert message is not None
        return message

    def register_all(self) -> None:
        for straw in self.workers:
            self.register(straw)
        self.tell_children()

    def register(self, straw: Straw) -> None:
        number = self.order("register", consumer=straw.consumer, slot=straw.slot, lists=self.lists)
        eventually(lambda: self.acknowledged(number))

    def return_items(self, straw: Straw, blame: str = "nobody", **fields: Any) -> int:
        fields = {"items": [], "counted": []} | fields
        return self.order("return", consumer=straw.consumer, blame=blame, **fields)

    def tell_children(self, *missing: Straw) -> None:
        living = [straw.consumer for straw in self.workers if straw not in missing]
        self.send("children", consumers=living)

    def tell_state(self, pids: dict[int, int] | None = None) -> None:
        workers = [
            {
                "slot": straw.slot,
                "pid": (pids or {}).get(straw.slot, 0),
                "consumer": straw.consumer,
                "state": "working",
                "restarts": 0,
                "backoff_s": 0,
                "started_at": 0.0,
            }
            for straw in self.workers
        ]
        self.send("state", supervisor={"pid": os.getpid(), "state": "running"}, workers=workers)

    def die(self) -> None:
        """As if the supervisor were killed: what only it held is closed."""
        if self._lifeline_end >= 0:
            os.close(self._lifeline_end)
            self._lifeline_end = -1

    def drain(self, successor: bool = False) -> None:
        self.send("drain", successor=successor)

    def join(self, timeout_s: float = 10) -> None:
        """Wait for the coordinator's end, and raise what ended it."""
        assert self._thread is not None
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), "the coordinator does not end"
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """End whatever is left."""
        self.die()
        if self._thread is not None:
            self._thread.join(10)
        if self.process is not None:
            self.process.kill()
            self.process.join(10)
            self.process.close()
        self.redis.close()
        os.close(self._lifeline)
        for status in (self.shared_status, *self._statuses):
            status.close()
        for end in (self.orders, self._orders_end, *(end for line in self._lines for end in line)):
            end.close()

    def _hear(self) -> None:
        self.told += receive(self.orders)

    # What Redis shows.

    def registrations(self) -> dict[str, str]:
        fields = self.redis.hgetall(calls.host_key(self.host))
        return {
            name.decode().removeprefix("consumer:"): value.decode()
            for name, value in fields.items()
            if name.startswith(b"consumer:")
        }

    def beat(self) -> str:
        return (self.redis.hget(calls.host_key(self.host), "beat") or b"").decode()

    def heartbeats_on(self) -> None:
        """Wait for its next heartbeat."""
        seen = self.shared_status.read().heartbeats
        eventually(lambda: self.shared_status.read().heartbeats != seen, 1)

    def beats_on(self, times: int = 2, timeout_s: float = 10) -> None:
        """Wait until it has beaten so many times more."""
        for _ in range(times):
            seen = self.beat()
            eventually(lambda seen=seen: self.beat() != seen, timeout_s)  # type: ignore[misc]

    def status(self) -> dict[str, Any]:
        fields = self.redis.hgetall(calls.host_key(self.host))
        named = {name.decode(): value for name, value in fields.items()}
        return {k: orjson.loads(v) if k in ("workers", "lists") else v for k, v in named.items()}

    def waiting(self) -> list[str]:
        """The BLMOVEs that wait in Redis now, by address."""
        clients = self.redis.client_list()
        return [c["addr"] for c in clients if c["cmd"] == "blmove" and "b" in c["flags"]]

    def everywhere(self, name: str = "q") -> int:
        """How many items of a list are anywhere."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.llen(name).llen(f"conserver:returned:{name}").llen(f"conserver:suspects:{name}")
        pipe.zcard(f"conserver:parked:{name}").llen(f"DLQ:{name}")
        for straw in self.workers:
            pipe.hlen(calls.inflight_key(straw.consumer))
        return sum(pipe.execute())


@contextlib.contextmanager
def house(url: str, **arguments: Any) -> Iterator[House]:
    """A house that is cleared away at the end; the coordinator is not started yet."""
    made = House(url, **arguments)
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
