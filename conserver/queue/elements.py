"""Reads the elements of a key in pages, so that no command blocks Redis for more than a few ms.

An element may be a whole document, and its size is unknown before it is read. So the first page has
FIRST elements. Each further page has up to twice as many as the page before, at most MOST, and
fewer if the elements are so large that the page would exceed PAGE_BYTES.

An element that is added or removed during the reading may be missed or read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

FIRST, MOST = 4, 64  # elements of a page
PAGE_BYTES = 4 * 1024 * 1024


def in_list(client: redis.Redis, key: str) -> Iterator[bytes]:
    """The elements of a list, from its head; no elements if the key has another type."""
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
    """The first `most` members of several sorted sets, as pairs of key and page.

    Each round trip reads one page of every set; all pages together have at most about PAGE_BYTES.
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
    """The elements that `read` returns for consecutive ranges, until a range is empty."""
    start, length = 0, FIRST
    while page := read(start, start + length - 1):
        yield from page
        start += len(page)
        length = next_length(page, length, PAGE_BYTES)


def next_length(page: Sequence[Any], length: int, most_bytes: int) -> int:
    """How many elements the next page should have, after `page` was read with this length."""
    page_bytes = sum(len(element) for element in page if element)
    return max(1, min(2 * length, MOST, most_bytes * len(page) // (page_bytes + 1)))
