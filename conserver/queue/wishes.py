"""What operators ask for, and the trail of it: writes that a full Redis must not refuse.

Who has to pause a list because Redis is full cannot wait until there is room. A plain HSET or RPUSH
is refused then; a script that begins with a DEL is not (prelude.lua, rule 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from conserver.queue import keys, script
from conserver.queue.script import Call

if TYPE_CHECKING:
    import redis


class Index(NamedTuple):
    """A sorted set of the latest hashes of a kind: this one's score and name, and how many stay."""

    key: str
    score: int
    name: str
    keep: int


Fields = Mapping[str, Any]
"""Texts, bytes and whole numbers by name."""


def wish(key: str, fields: Fields, *, expire_s: int = 0, index: Index | None = None) -> Call:
    """Set fields of a hash. The answer is how many of them are new.

    expire_s: until the hash expires, from now on; 0: as it is. index: where it is listed, too.
    """
    keys_used, listed = [key], (0, 0, "")
    if index is not None:
        keys_used.append(index.key)
        listed = (index.keep, index.score, index.name)
    words = [word for pair in fields.items() for word in pair]
    return Call("wish", keys_used, [expire_s, *listed, *words])


def audit(line: bytes, keep: int) -> Call:
    """Add an entry to the audit list, which keeps the newest `keep`."""
    return Call("audit", [keys.AUDIT], [line, keep])


def ask(
    client: redis.Redis,
    key: str,
    fields: Fields,
    *,
    expire_s: int = 0,
    index: Index | None = None,
) -> int:
    """Send a wish. Returns how many of its fields are new. Raises redis.RedisError."""
    return int(script.run(client, wish(key, fields, expire_s=expire_s, index=index)))
