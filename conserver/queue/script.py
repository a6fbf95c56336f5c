"""Loads Lua scripts and calls them.

A Call is plain data. Workers and the coordinator send it over connections that repeat it until
Redis answers (retrying_connection.py); commands send it with `run`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import redis

_WITH_DOCUMENTS = frozenset({"claim", "write", "settle", "move", "return"})


class Script(NamedTuple):
    """The text of a script, and the SHA-1 under which Redis caches it."""

    text: bytes
    sha: str


@cache
def load(name: str) -> Script:
    """The script <name>.lua, preceded by prelude.lua and, if it needs them, documents.lua."""
    parts = ["prelude", "documents", name] if name in _WITH_DOCUMENTS else ["prelude", name]
    folder = resources.files("conserver.queue")
    text = b"\n".join((folder / f"{part}.lua").read_bytes() for part in parts)
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


class Call(NamedTuple):
    """One call of a script.

    name: of the file, without ".lua". keys, args: sent to Redis as they are. again: further
    arguments, sent only if the call is repeated because its answer may have been lost.
    """

    name: str
    keys: Sequence[str | bytes]
    args: Sequence[str | bytes | int | float]
    again: Iterable[str | bytes] = ()

    @property
    def step(self) -> str:
        """The name of the script; for move.lua the kind of move ("release", "park", "dead")."""
        return str(self.args[0]) if self.name == "move" else self.name

    def command(self, whole: bool = False, repeated: bool = False) -> tuple[Any, ...]:
        """The words of the Redis command.

        Args:
            whole: use EVAL with the script's text, because Redis does not know its SHA-1.
            repeated: add the arguments in `again`.
        """
        loaded = load(self.name)
        head = ("EVAL", loaded.text) if whole else ("EVALSHA", loaded.sha)
        words = (*head, len(self.keys), *self.keys, *self.args)
        return (*words, *self.again) if repeated else words


def run(client: redis.Redis, call: Call) -> Any:
    """Send a call once, by a plain client. Returns the answer. Raises redis.RedisError."""
    from redis.exceptions import NoScriptError

    try:
        return client.execute_command(*call.command())
    except NoScriptError:
        return client.execute_command(*call.command(whole=True))
