"""What a key holds, element by element, for commands that look: in pages that keep Redis for a few
ms at most.

An element may be a whole document, and nobody knows before it is read. So the first page is short,
each may be twice as long as the one before while they are light, and none is so long that it would
matter if all of it were documents of 256 KiB.

Elements that come or go meanwhile may be missed or be met twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

FIRST, MOST = 4, 64  # elements of a page
PAGE_BYTES = 4 * 1024 * 1024


def in_list(client: redis.Redis, key: str) -> Iterator[bytes]:
    """The elements of a list, from its head; none of what is no list: others make these keys."""
    if client.type(key) == b"list":
        yield from _in_pages(lambda first, last: client.lrange(key, first, last))


def in_sorted_set(client: redis.Redis, key: str) -> Iterator[bytes]:
    """The members of a sorted set, from the lowest score. Raises ResponseError if it is none."""
    return _in_pages(lambda first, last: client.zrange(key, first, last))


def in_hash(client: redis.Redis, key: str) -> Iterator[tuple[bytes, bytes]]:
    """The fields of a hash, with their values. Raises ResponseError if it is none."""
    fields: Any = client.hkeys(key)
    values = _in_pages(lambda first, last: _values(client, key, fields[first : last + 1]))
    for field, value in zip(fields, values, strict=True):
        if value is not None:
            yield field, value


def _values(client: redis.Redis, key: str, fields: Sequence[str]) -> Any:
    return client.hmget(key, fields) if fields else ()


def _in_pages(read: Callable[[int, int], Any]) -> Iterator[Any]:
    """What `read` gives for one range after the other, until that is nothing."""
    start, length = 0, FIRST
    while page := read(start, start + length - 1):
        yield from page
        start += len(page)
        page_bytes = sum(len(element) for element in page if element)
        fitting = PAGE_BYTES * len(page) // (page_bytes + 1)
        length = max(1, min(2 * length, MOST, fitting))
