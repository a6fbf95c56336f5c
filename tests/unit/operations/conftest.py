"""Fixtures of the tests of operations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from conserver.queue.clients import client as connect


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty Redis, such as operations take."""
    with connect(redis_url) as found:
        yield found
