"""What Redis shows of the items of a chain with the link tests.modules.trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import redis

from tests.daemon import elements


def runs(client: redis.Redis, uuid: str) -> int:
    """How often the link has started on an item."""
    return int(client.llen(f"runs:{uuid}"))


def arrived(client: redis.Redis, uuids: Iterable[str]) -> Callable[[], bool]:
    """A predicate: exactly these uuids are in the egress list, each once."""
    wanted = sorted(uuids)
    return lambda: sorted(elements(client, "out")) == wanted
