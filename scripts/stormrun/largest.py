"""The largest call of each script: for how long it keeps Redis from everybody else.

Each is made with as many items, and as many bytes, as it may ever have, again and again on a fresh
Redis; the shortest time counts, because what else runs on a machine can only add to it.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import Any

import orjson
import redis
from servers import Redis

from conserver.queue import calls, script
from tests.daemon import push, vcon

HOST, CONSUMER, LIST = "host", "consumer", "in"
ITEMS = calls.BATCH_ITEMS
LARGE_BYTES = 256 * 1024


class Worker:
    """What one worker says to Redis, timed by Redis."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._number = 0
        self.best_ms: dict[str, float] = {}

    def begin(self) -> None:
        """Anew, on an empty Redis."""
        self._client.flushdb()
        self._number = 0
        self.call("register", calls.register(HOST, CONSUMER, [LIST]))

    def call(self, name: str, call: script.Call) -> Any:
        """Make one call, and keep the shortest time of its name."""
        script.run(self._client, calls.unbell("nothing", 1))  # the connection is warm
        with suppress(redis.exceptions.ResponseError):
            self._client.script_load(script.load(call.name).text)
        self._client.config_resetstat()
        answer = script.run(self._client, call)
        used_ms = self._client.info("commandstats")["cmdstat_evalsha"]["usec"] / 1000
        self.best_ms[name] = min(self.best_ms.get(name, used_ms), used_ms)
        return answer

    def claim(self, count: int, size_bytes: int = 0, name: str = "claim") -> list[Any]:
        """Push so many vCons and claim them."""
        body = [{**vcon(), "padding": "x" * size_bytes} for _ in range(count)]
        push(self._client, LIST, body)
        return self._claim(count, name)

    def claim_whole(self, count: int, size_bytes: int, name: str) -> list[Any]:
        """The same with documents that are pushed themselves."""
        for _ in range(count):
            self._client.rpush(LIST, orjson.dumps({**vcon(), "padding": "x" * size_bytes}))
        return self._claim(count, name)

    def _claim(self, count: int, name: str) -> list[Any]:
        self._number += 1
        demands = [calls.Demand(LIST, count, 3)]
        call = calls.claim(HOST, CONSUMER, self._number, True, demands, calls.ClaimLimits())
        items = calls.read_claim(self.call(name, call)).items
        assert len(items) == count, f"{name} got {len(items)}"
        return items

    def write(self, items: list[Any], size_bytes: int, name: str) -> None:
        """Write as many documents as a call may have."""
        self._number += 1
        state = orjson.dumps({"links": ["one", "two"], "owed": ["a", "b", "c"]})
        writes = [
            calls.Write(
                item.token,
                item.epoch,
                item.payload.decode(),
                0,
                "chain",
                state,
                orjson.dumps({"uuid": item.payload.decode(), "padding": "x" * size_bytes}),
            )
            for item in items
        ]
        self.call(name, calls.write(CONSUMER, self._number, writes))

    def settle(self, items: list[Any], size_bytes: int, name: str) -> None:
        """Settle them with their documents, to two lists, with an ETag."""
        settlements = [
            calls.Settlement(
                item.token,
                item.epoch,
                item.payload.decode(),
                0,
                "chain",
                orjson.dumps({"uuid": item.payload.decode(), "padding": "y" * size_bytes}),
                3600,
                [("out", item.payload.decode()), ("also", item.payload.decode())],
                {"s3": uuid.uuid4().hex},
            )
            for item in items
        ]
        self.call(name, calls.settle(CONSUMER, settlements))


def measure(rounds: int) -> dict[str, float]:
    """Script and what it had to do -> its shortest time in ms."""
    with Redis() as server, redis.Redis.from_url(server.url) as client:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, server.pid, -15)
        worker = Worker(client)
        for _ in range(rounds):
            _all(worker)
    return {name: round(ms, 2) for name, ms in worker.best_ms.items() if name != "register"}


def _all(worker: Worker) -> None:
    worker.begin()
    full, large = ITEMS, calls.SCRIPT_BYTES // LARGE_BYTES
    items = worker.claim(full, name=f"claim of {full}")
    worker.write(items, 500, f"write of {full}")
    worker.settle(items, 500, f"settle of {full}")
    items = worker.claim(large, LARGE_BYTES - 1000, f"claim of {large} x 256 KiB")
    worker.write(items, LARGE_BYTES - 1000, f"write of {large} x 256 KiB")
    worker.settle(items, LARGE_BYTES - 1000, f"settle of {large} x 256 KiB")
    worker.begin()
    worker.claim_whole(large, LARGE_BYTES - 1000, f"claim of {large} pushed whole, 256 KiB")
    worker.begin()
    for kind, send in (("release", calls.release), ("park", calls.park)):
        moves = [calls.Move(i.token, i.epoch, b"=", 0) for i in worker.claim(full, name="claim")]
        worker.call(f"{kind} of {full}", send(CONSUMER, moves))
    worker.call("promote of 256", calls.promote(LIST, 256, everything=True))
    items = worker.claim(full, name="claim")
    why = orjson.dumps({"reason": "failed", "traceback": "x" * 8000})
    moves = [calls.Move(i.token, i.epoch, b"=", 0, why) for i in items[:64]]
    worker.call("dead-letter of 64 with tracebacks", calls.dead_letter(CONSUMER, moves, 3600))
    worker.claim(full, name="claim")
    worker.call(f"stray call of {full}", calls.stray(CONSUMER, 10**9, []))
    worker.claim(full, name="claim")
    blame = calls.Blame("everything", notes={"": {"error": "died with its host"}})
    back = f"return of {calls.RETURN_BATCH}"
    worker.call(back, calls.give_back(HOST, CONSUMER, blame))
