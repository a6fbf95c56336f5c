"""What the contract tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.queues import Queue, opened


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    """The queue in an empty Redis."""
    with opened(redis_url) as found:
        yield found
