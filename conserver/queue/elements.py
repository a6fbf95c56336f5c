"""Reads the elements of a key in pages, each of which occupies Redis for a few ms at most.

An element may be a whole document, and its size is not known before it is read. So the first page
is short, each next one is up to twice as long while the elements are small, and no page is so long
that documents of 256 KiB each would make it large.

Elements that are added or removed meanwhile may be missed or read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

FIRST, MOST = 4, 64  # elements of a page
PAGE_BYTES = 4 * 1024 * 1024


def in_list(client: redis.Redis, key: str) -> Iterator[bytes]:
    """The elements of a list, from its head; none where the key holds another type."""
    if client.type(key) == b"list":
        yield from _in_pages(lambda first, last: client.lrange(key, first, last))


def in_sorted_set(client: redis.Redis, key: str, *, highest: bool = False) -> Iterator[bytes]:
    """The members of a sorted set, from the lowest score, or from the highest. Raises ResponseError
    for other types.
    """
    return _in_pages(lambda first, last: client.zrange(key, first, last, desc=highest))


def in_sorted_sets(
    client: redis.Redis, names: Sequence[str], most: int
) -> Iterator[tuple[str, list[bytes]]]:
    """The first `most` members of several sorted sets, in pages with their keys.

    A round trip brings a page of each; together they are as large as one page of the others here.
    Raises ResponseError for other types.
    """
    unread = dict.fromkeys(names, (0, FIRST))
    while unread:
        pipe = client.pipeline(transaction=False)
        for name, (start, length) in unread.items():
            pipe.zrange(name, start, min(start + length, most) - 1)
        pages = dict(zip(unread, pipe.execute(), strict=True))
        for name, page in pages.items():
            start, length = unread.pop(name)
            if page:
                yield name, page
                start += len(page)
                if start < most:
                    unread[name] = start, next_length(page, length, PAGE_BYTES // len(pages))


def in_hash(client: redis.Redis, key: str) -> Iterator[tuple[bytes, bytes]]:
    """The fields of a hash with their values. Raises ResponseError for other types."""
    fields: Any = client.hkeys(key)
    values = _in_pages(lambda first, last: _values(client, key, fields[first : last + 1]))
    for field, value in zip(fields, values, strict=True):
        if value is not None:
            yield field, value


def _values(client: redis.Redis, key: str, fields: Sequence[str]) -> Any:
    return client.hmget(key, fields) if fields else ()


def _in_pages(read: Callable[[int, int], Any]) -> Iterator[Any]:
    """The elements that `read` answers for consecutive ranges, until a range is empty."""
    start, length = 0, FIRST
    while page := read(start, start + length - 1):
        yield from page
        start += len(page)
        length = next_length(page, length, PAGE_BYTES)


def next_length(page: Sequence[Any], length: int, most_bytes: int) -> int:
    """How many elements to read after a page of this length."""
    page_bytes = sum(len(element) for element in page if element)
    return max(1, min(2 * length, MOST, most_bytes * len(page) // (page_bytes + 1)))
