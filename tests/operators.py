"""What tests of commands set up by hand: consumers, beats, and documents, on a real Redis."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import orjson

from conserver.queue import calls, host_calls, script


class Consumer:
    """A consumer by hand: registered, it claims what is there and moves it."""

    def __init__(self, server: Any, host: str = "h1", name: str = "inbox") -> None:
        self.name = name
        self.server, self.host, self.id, self.number = server, host, uuid4().hex[:16], 0
        script.run(server, host_calls.register(host, self.id, [name]))

    def claim(self) -> list[Any]:
        self.number += 1
        call = calls.claim(
            self.host,
            self.id,
            self.number,
            True,
            [calls.Demand(self.name, 100)],
            calls.ClaimLimits(),
        )
        return calls.read_claim(script.run(self.server, call)).items

    def dead_letter(self, **why: Any) -> None:
        """Makes dead letters of all that can be claimed."""
        moves = []
        for item in self.claim():
            told = {"uuid": item.payload.decode(), "time_ms": int(time.time() * 1000), **why}
            moves.append(calls.Move(item.token, item.epoch, why=orjson.dumps(told)))
        script.run(self.server, calls.move("dead", self.id, moves, 3600))

    def release(self, items: Sequence[Any]) -> None:
        """Returns items that were not begun."""
        moves = [calls.Move(item.token, item.epoch) for item in items]
        script.run(self.server, calls.move("release", self.id, moves))

    def park(self) -> None:
        moves = [calls.Move(item.token, item.epoch, after_ms=60_000) for item in self.claim()]
        script.run(self.server, calls.move("park", self.id, moves))


def vcon(uuid: str, **members: Any) -> bytes:
    return orjson.dumps(
        {
            "vcon": "0.4.0",
            "uuid": uuid,
            "created_at": "2026-01-01T00:00:00Z",
            "parties": [],
            **members,
        }
    )


def beat(
    server: Any,
    *,
    name: str = "",
    age_s: float = 0,
    state: str = "running",
    pid: int = 10,
    lists: Sequence[str] = ("inbox",),
    consumer: str = "",
) -> None:
    """A host tells what a coordinator tells."""
    workers = [
        {
            "slot": 1,
            "consumer": consumer,
            "pid": 11,
            "state": "working",
            "restarts": 2,
            "done": 40,
            "failed": 1,
            "held": 1,
            "rss_bytes": 50 << 20,
            "away": ["pg"],
            "items": [
                {"uuid": "u-6", "chain": "main", "link": "", "phase": "queued", "since_s": 300},
                {
                    "uuid": "u-7",
                    "chain": "main",
                    "link": "mark",
                    "phase": "running",
                    "since_s": 130,
                },
            ],
        }
    ]
    fields: dict[str, str | bytes | int] = {
        "name": name or socket.gethostname(),
        "version": "0.1.0",
        "lease_s": "55",
        "pid": pid,
        "state": state,
        "lists": orjson.dumps(list(lists)),
        "storages": orjson.dumps(["files", "pg"]),
        "away": orjson.dumps({"pg": time.time() - 180}),
        "away_reasons": orjson.dumps({"pg": "password authentication failed"}),
        "workers": orjson.dumps(workers),
    }
    at_ms = int((time.time() - age_s) * 1000)
    # Behind the time of the script, which is that of Redis.
    script.run(server, host_calls.beat("h1", f"{at_ms}.1", {**fields, "beat_at_ms": at_ms}))
