"""What the contract tests share.

The tests of the queue run on a real Redis and on conserver.testing's Redis in memory, so that what
is tested with that one elsewhere means something. A mark says where that cannot be, and why:

    pytestmark = pytest.mark.real_redis("it counts keys with MEMORY USAGE")
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from conserver.testing.redis_server import FakeRedisServer
from tests.queues import Queue, opened


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses `queue` on both, if it uses no other Redis."""
    names = metafunc.fixturenames
    if "queue" in names and metafunc.definition.get_closest_marker("real_redis") is None:
        others = {"redis_url", "json_redis_url"} & set(metafunc.definition._fixtureinfo.argnames)
        if not others:
            metafunc.parametrize("queue", ["redis", "fakeredis"], indirect=True)


@pytest.fixture(scope="session")
def fake_redis_url() -> Iterator[str]:
    """A Redis in memory."""
    with FakeRedisServer() as server:
        yield server.url


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> Iterator[Queue]:
    """The queue in an empty Redis."""
    if getattr(request, "param", "redis") == "redis":
        url: str = request.getfixturevalue("redis_url")
    else:
        url = request.getfixturevalue("fake_redis_url")
        with redis.Redis.from_url(url) as client:
            client.flushall()
    with opened(url) as found:
        yield found
