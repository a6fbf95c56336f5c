"""Operators' requests (pause, recycle, ...) and audit entries: writes that a full Redis accepts.

An operator must be able to pause a list because Redis is full. A full Redis refuses a plain HSET or
RPUSH, but not a script that begins with a DEL (prelude.lua, rule 2). So these writes are scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from conserver.queue import keys, script
from conserver.queue.script import Call

if TYPE_CHECKING:
    import redis


class Index(NamedTuple):
    """A sorted set that indexes the latest hashes of one kind.

    score, name: of the hash to add. keep: how many entries stay.
    """

    key: str
    score: int
    name: str
    keep: int


Fields = Mapping[str, Any]
"""Field of a hash -> text, bytes or whole number."""


def wish(key: str, fields: Fields, *, expire_s: int = 0, index: Index | None = None) -> Call:
    """Set fields of a hash. The script answers how many of the fields are new.

    expire_s: the hash expires after so many seconds; 0: its expiry stays. index: a sorted set to
    which the script adds the hash.
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
    """Set fields of a hash, as `wish` describes. Returns how many of the fields are new.

    Raises redis.RedisError.
    """
    return int(script.run(client, wish(key, fields, expire_s=expire_s, index=index)))
