"""Keys that hold another type than they must: found and named, for whoever ran into one.

Redis says that a key has the wrong type, and not which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from conserver.queue import calls
from conserver.queue.wrong_type import kind_of

if TYPE_CHECKING:
    from conserver.cli.base import Client

_OF_A_LIST = (
    "{}", "DLQ:{}", "conserver:returned:{}", "conserver:suspects:{}", "conserver:parked:{}",
    "conserver:dead:{}",
)  # fmt: skip


def wrong_keys(client: Client) -> list[str]:
    """What is wrong with which key, of all that can be known to be in use."""
    keys = [calls.LISTS, calls.HOSTS, calls.CONTROL]
    keys += [calls.host_key(host) for host in _members(client, calls.HOSTS)]
    keys += [form.format(name) for name in _members(client, calls.LISTS) for form in _OF_A_LIST]
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    return [
        f"{key} is a {found.decode()} and must be a {kind_of(key)}: rename or delete it"
        for key, found in zip(keys, pipe.execute(), strict=True)
        if found not in (b"none", kind_of(key).encode())
    ]


def _members(client: Client, key: str) -> list[str]:
    return sorted(m.decode() for m in client.smembers(key)) if client.type(key) == b"set" else []
