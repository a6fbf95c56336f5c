"""What old modules do with Redis besides their own document goes to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from conserver.plugins.compat.old_redis import Client
from conserver.queue.clients import client as connect


@pytest.fixture
def server(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """An empty Redis that REDIS_URL names."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    with connect(redis_url) as found:
        yield found


def test_documents_of_other_vcons(server: Any) -> None:
    """They are read and written as text, which is how Conserver keeps them; with an expiry, too."""
    client = Client()
    client.json().set("vcon:other", "$", {"uuid": "other"})
    assert server.get("vcon:other") == b'{"uuid": "other"}'
    assert client.json().get("vcon:other") == {"uuid": "other"}
    assert client.get("vcon:other") == '{"uuid": "other"}'
    client.expire("vcon:other", 50)
    assert 0 < client.ttl("vcon:other") <= 50
    assert client.persist("vcon:other")
    assert client.exists("vcon:other", "vcon:none") == 1


def test_all_else_is_plain_redis(server: Any) -> None:
    """Any command works, and answers are text as such modules expect."""
    client = Client()
    client.rpush("a list", "x", "y")
    assert client.lrange("a list", 0, -1) == ["x", "y"]
    client.set("key", "value", ex=10)
    assert client.get("key") == "value"
    assert server.ttl("key") > 0
    client.real.close()
