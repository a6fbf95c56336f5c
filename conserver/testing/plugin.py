"""A plugin of pytest with the fixture `conserver`. In a conftest.py:

pytest_plugins = ["conserver.testing.plugin"]

If CONSERVER_TEST_REDIS_URL names a real Redis, the fixture uses it and empties its database before
each test. Else it uses a Redis in memory (redis_server.py tells how that differs from a real one).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from conserver.queue import clients
from conserver.testing.harness import Conserver


@pytest.fixture(scope="session")
def conserver_redis_url() -> Iterator[str]:
    """The URL of the Redis that all `conserver` fixtures of this session use."""
    if url := os.environ.get("CONSERVER_TEST_REDIS_URL"):
        yield url
        return
    from conserver.testing.redis_server import FakeRedisServer

    with FakeRedisServer() as server:
        yield server.url


@pytest.fixture
def conserver(conserver_redis_url: str) -> Iterator[Conserver]:
    """A Conserver with an empty Redis and no configuration yet."""
    with clients.client(conserver_redis_url) as client:
        client.flushdb()
    with Conserver(conserver_redis_url) as made:
        yield made
