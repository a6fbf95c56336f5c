"""What the tests of the whole command share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """An operator's connection."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
