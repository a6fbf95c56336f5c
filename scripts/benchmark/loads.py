"""What is measured: vCons of a given size, and lists full of them."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import orjson
import redis

STAGED = "bench:staged"


def document(body_bytes: int = 4000, identity: str | None = None) -> dict[str, Any]:
    """A conversation of about `body_bytes` and 700 bytes around them."""
    line = "thank you for calling, how may I help you today? "
    return {
        "vcon": "0.4.0",
        "uuid": identity or str(uuid.uuid4()),
        "created_at": "2026-11-01T10:00:00Z",
        "subject": "a call about an order",
        "parties": [
            {"tel": "+12025550100", "name": "Ann Agent", "role": "agent"},
            {"tel": "+12025550101", "name": "Carl Customer", "mailto": "carl@example.com"},
        ],
        "dialog": [
            {
                "type": "text",
                "start": "2026-11-01T10:00:00Z",
                "duration": 61.5,
                "parties": [0, 1],
                "mediatype": "text/plain",
                "body": (line * (body_bytes // len(line) + 1))[:body_bytes],
                "encoding": "none",
            }
        ],
        "analysis": [
            {"type": "summary", "dialog": 0, "vendor": "bench", "body": "x", "encoding": "none"}
        ],
        "attachments": [],
    }


def stage(client: redis.Redis, items: int, body_bytes: int = 4000) -> list[str]:
    """Store documents and put their uuids on a list that nobody serves. Answers the uuids."""
    template = orjson.dumps(document(body_bytes, identity="@"))
    uuids: list[str] = []
    for some in _chunks(items, 500 if body_bytes < 100_000 else 10):
        pipe = client.pipeline(transaction=False)
        fresh = [str(uuid.uuid4()) for _ in range(some)]
        for identity in fresh:
            pipe.set(f"vcon:{identity}", template.replace(b'"@"', b'"%b"' % identity.encode(), 1))
        pipe.rpush(STAGED, *fresh)
        pipe.execute()
        uuids += fresh
    return uuids


def release(client: redis.Redis, name: str) -> None:
    """Let the staged items appear on the list, all at once."""
    client.rename(STAGED, name)


def _chunks(total: int, most: int) -> Iterator[int]:
    while total > 0:
        yield min(total, most)
        total -= most


def push_at_a_rate(
    client: redis.Redis, name: str, per_s: float, uuids: list[str]
) -> dict[str, float]:
    """Push one after another at moments that do not depend on what becomes of them. Answers when
    each was pushed.
    """
    pushed = {}
    began_s = time.perf_counter()
    for number, identity in enumerate(uuids):
        time.sleep(max(began_s + number / per_s - time.perf_counter(), 0))
        pushed[identity] = time.perf_counter()
        client.rpush(name, identity)
    return pushed


if __name__ == "__main__":
    url, ingress, rate = sys.argv[1:4]
    moments = push_at_a_rate(
        redis.Redis.from_url(url), ingress, float(rate), orjson.loads(sys.stdin.readline())
    )
    print(orjson.dumps(moments).decode(), flush=True)
