"""The bare loops: what the same work costs with the client libraries and without any guarantee.

Run as a process of its own, `python -m benchmark.bare ORDER`, so that its CPU is its own. ORDER is
a JSON object: the name of a loop, how many items, and where. It says "ready", waits for a line,
works, tells what it spent in JSON, and stays until its input ends.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import orjson
import redis

BATCH = 32  # where an order does not say another

Order = dict[str, Any]


def one_by_one(client: redis.Redis, order: Order) -> None:
    """BLPOP, GET, parse, append, dump, SET, RPUSH: loses an item on a kill."""
    for _ in range(order["items"]):
        _, uuid = cast("tuple[bytes, bytes]", client.blpop([order["in"]]))
        vcon = orjson.loads(cast("bytes", client.get(b"vcon:" + uuid)))
        vcon["attachments"].append(_tag())
        client.set(b"vcon:" + uuid, orjson.dumps(vcon))
        client.rpush(order["out"], uuid)


def batches(client: redis.Redis, order: Order) -> None:
    """The same, 32 at a time, each command in a pipeline: loses a batch on a kill."""
    done = 0
    while done < order["items"]:
        uuids = cast("list[bytes]", client.lpop(order["in"], order.get("batch", BATCH)))
        pipe = client.pipeline(transaction=False)
        for uuid in uuids:
            pipe.get(b"vcon:" + uuid)
        bodies = pipe.execute()
        pipe = client.pipeline(transaction=False)
        for uuid, body in zip(uuids, bodies, strict=True):
            if order.get("tag", True):
                vcon = orjson.loads(body)
                vcon["attachments"].append(_tag())
                pipe.set(b"vcon:" + uuid, orjson.dumps(vcon))
            pipe.rpush(order["out"], uuid)
        pipe.execute()
        done += len(uuids)


def lean_batches(client: redis.Redis, order: Order) -> None:
    """The same in as few commands as can be: MGET, MSET, one RPUSH."""
    done = 0
    while done < order["items"]:
        uuids = cast("list[bytes]", client.lpop(order["in"], order.get("batch", BATCH)))
        keys = [b"vcon:" + uuid for uuid in uuids]
        bodies = cast("list[bytes]", client.mget(keys))
        pipe = client.pipeline(transaction=False)
        if order.get("tag", True):
            changed = {}
            for key, body in zip(keys, bodies, strict=True):
                vcon = orjson.loads(body)
                vcon["attachments"].append(_tag())
                changed[key] = orjson.dumps(vcon)
            pipe.mset(cast("dict[Any, Any]", changed))
        pipe.rpush(order["out"], *uuids)
        pipe.execute()
        done += len(uuids)


def burning(client: redis.Redis, order: Order) -> None:
    """The computing link of burn.py alone, in as many threads as the worker has."""
    from benchmark.burn import burn

    todo = iter(range(order["items"]))

    def work() -> None:
        for _ in todo:
            burn(order["turns"])

    threads = [threading.Thread(target=work) for _ in range(order["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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


LOOPS: dict[str, Callable[[redis.Redis, Order], None]] = {
    "one by one": one_by_one,
    "batches": batches,
    "lean batches": lean_batches,
    "burning": burning,
}


def _prepared(order: Order) -> Callable[[], object]:
    """The loop, with everything made that is not part of it."""
    if order["loop"] in LOOPS:
        client = redis.Redis.from_url(order["redis"])
        client.ping()
        return lambda: LOOPS[order["loop"]](client, order)
    from benchmark.bare_storages import prepared

    return prepared(order)


def main() -> None:
    """Carry out the order."""
    order: Order = orjson.loads(sys.argv[1])
    loop = _prepared(order)
    print("ready", flush=True)
    sys.stdin.readline()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    told = loop()
    spent = {"wall_s": time.perf_counter() - began_s, "cpu_s": time.process_time() - began_cpu_s}
    print(orjson.dumps(spent | {"told": told}).decode(), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
