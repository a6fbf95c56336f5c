"""Workers and names of storages for the tests of the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import unique
from tests.workers import SteppedWorker


@pytest.fixture
def make(redis_url: str, forgets_secrets: None) -> Iterator[Callable[..., SteppedWorker]]:
    """Makes workers that are closed at the end."""
    with ExitStack() as stack:
        yield lambda *arguments, **settings: stack.enter_context(
            SteppedWorker(redis_url, *arguments, **settings)
        )


@pytest.fixture
def shelves() -> list[str]:
    """Names of two storages."""
    return [unique("one-"), unique("two-")]
