"""`visitors("read")` is somebody who has logged in with that role at the dashboard of `api`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.api.conftest import Api, api, queue, serve, worker
from tests.dashboard.visitor import Visitor, Visitors

__all__ = ["api", "queue", "serve", "worker"]


@pytest.fixture
def visitors(api: Api) -> Iterator[Visitors]:
    """Makes visitors; a role of "" has not logged in."""
    with ExitStack() as stack:

        def visitor(role: str = "") -> Visitor:
            made = stack.enter_context(Visitor(api))
            return made.login(role) if role else made

        yield visitor
