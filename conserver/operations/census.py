"""Reads every key of Redis once, to find what fills the memory, and lists that no host serves.

It reads the keys in pages of a thousand, with types and sizes, so that no call blocks Redis for
more than some ms. It stops after KEYS_MAX keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from conserver.operations import documents
from conserver.operations.connection import Client
from conserver.queue import keys

KEYS_MAX = 2_000_000
_PAGE = 1000
_SIZES_EVERY = 10  # of every tenth key the size is read, because MEMORY USAGE is slower than TYPE
_DOCUMENTS = (keys.document(""), keys.revision(""))
_LETTERS = (keys.dead_letters(""), keys.dead(""))
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Census:
    """What is in Redis.

    Attributes:
        bytes: kind of key (a phrase) -> memory of the sampled keys in bytes; the largest first.
        lists: all keys of type list, except Conserver's own.
        complete: whether all keys were read.
    """

    bytes: dict[str, int]
    lists: list[str]
    complete: bool

    def unserved(self, known: Collection[str]) -> list[str]:
        """The lists that are not in `known`, without the trace contexts of known lists."""
        beside = tuple(keys.trace_context(name, "") for name in known)
        return [name for name in self.lists if name not in known and not name.startswith(beside)]

    @property
    def largest(self) -> str:
        """The kinds that use most memory, with their shares: `60 % documents, 30 % jobs`."""
        whole = sum(self.bytes.values())
        parts = [
            f"{100 * size / whole:.0f} % {kind}"
            for kind, size in islice(self.bytes.items(), _SHOWN)
            if size * 100 >= whole
        ]
        return ", ".join(parts)


def take(client: Client) -> Census:
    """Take the census. `bytes` is empty if the Redis user may not call MEMORY USAGE."""
    sizes: Counter[str] = Counter()
    lists: list[str] = []
    count = 0
    for page in _pages(client):
        count += len(page)
        pipe = client.pipeline(transaction=False)
        for key in page:
            pipe.type(key)
        asked = page[:: _SIZES_EVERY if len(page) == _PAGE else 1]
        for key in asked:
            pipe.memory_usage(key, samples=1)
            pipe.pttl(key)
        answers = pipe.execute(raise_on_error=False)
        kinds, found = answers[: len(page)], answers[len(page) :]
        lists += [
            key.decode("utf-8", "replace")
            for key, kind in zip(page, kinds, strict=True)
            if kind == b"list" and not key.startswith((b"conserver:", b"DLQ:"))
        ]
        for key, size, left_ms in zip(asked, found[::2], found[1::2], strict=True):
            if isinstance(size, int) and isinstance(left_ms, int):
                sizes[_kind_of(key.decode("utf-8", "replace"), left_ms)] += size
        if count >= KEYS_MAX:
            break
    return Census(dict(sizes.most_common()), sorted(lists), count < KEYS_MAX)


def _pages(client: Client) -> Iterator[list[bytes]]:
    scanned = client.scan_iter(count=_PAGE)
    while page := list(islice(scanned, _PAGE)):
        yield page


def _kind_of(key: str, left_ms: int) -> str:
    """A phrase for the kind of a key."""
    if key.startswith(_DOCUMENTS):
        done = documents.expires(left_ms)
        return "documents that are done with" if done else "documents at work"
    if key.startswith(_LETTERS):
        return "dead letters"
    if key.startswith("conserver:"):
        return f"{':'.join(key.split(':')[:2])}:..."
    return key
