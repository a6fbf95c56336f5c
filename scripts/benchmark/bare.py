"""The bare loops: what the same work costs with the client libraries and without any guarantee.

Run as a process of its own (`python -m benchmark.bare LOOP ...`), so that its CPU is its own. Each
ends when the list is empty and prints nothing.
"""

from __future__ import annotations

import sys
import time
from typing import Any, cast

import orjson
import redis

SIZE = 32


def one_by_one(client: redis.Redis, name: str, out: str) -> None:
    """BLPOP, GET, parse, append, dump, SET, RPUSH: loses an item on a kill."""
    while popped := cast("tuple[bytes, bytes] | None", client.blpop([name], timeout=1)):
        key = b"vcon:" + popped[1]
        vcon = orjson.loads(cast("bytes", client.get(key)))
        vcon["attachments"].append(_tag())
        client.set(key, orjson.dumps(vcon))
        client.rpush(out, popped[1])


def batches(client: redis.Redis, name: str, out: str, tagged: bool = True) -> None:
    """The same, 32 at a time: loses a batch on a kill."""
    while uuids := cast("list[bytes] | None", client.lpop(name, SIZE)):
        keys = [b"vcon:" + uuid for uuid in uuids]
        bodies = cast("list[bytes]", client.mget(keys))
        pipe = client.pipeline(transaction=False)
        if tagged:
            changed = {}
            for key, body in zip(keys, bodies, strict=True):
                vcon = orjson.loads(body)
                vcon["attachments"].append(_tag())
                changed[key] = orjson.dumps(vcon)
            pipe.mset(cast("dict[Any, Any]", changed))
        pipe.rpush(out, *uuids)
        pipe.execute()


def _tag() -> dict[str, Any]:
    return {
        "purpose": "tags",
        "start": "2026-11-01T10:00:00Z",
        "party": 0,
        "dialog": 0,
        "mediatype": "application/json",
        "encoding": "json",
        "body": ["bench:bench"],
    }


def echo(client: redis.Redis, name: str, out: str) -> None:
    """As one_by_one, until it is killed: what a push to an idle worker takes."""
    while True:
        one_by_one(client, name, out)


LOOPS: dict[str, Any] = {
    "one": one_by_one,
    "batches": batches,
    "queue": lambda client, name, out: batches(client, name, out, tagged=False),
    "echo": echo,
}

if __name__ == "__main__":
    loop, url, ingress, egress = sys.argv[1:5]
    connection = redis.Redis.from_url(url)
    connection.ping()
    while not connection.exists(ingress) and loop != "echo":
        time.sleep(0.001)
    began_s = time.process_time()
    LOOPS[loop](connection, ingress, egress)
    print(time.process_time() - began_s)
