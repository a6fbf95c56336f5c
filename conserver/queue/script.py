"""A script of the queue: its text, one call of it, and how that is sent.

A Call is plain data. The worker's Line sends it over a connection that repeats until it is
answered, and so does the coordinator's; the commands send it with `run`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import redis

_WITH_DOCUMENTS = frozenset({"claim", "write", "settle", "move"})


class Script(NamedTuple):
    """A script's text, and the SHA-1 under which Redis keeps it."""

    text: bytes
    sha: str


@cache
def load(name: str) -> Script:
    """Load <name>.lua behind the parts that it shares with others."""
    parts = ["prelude", "documents", name] if name in _WITH_DOCUMENTS else ["prelude", name]
    folder = resources.files("conserver.queue")
    text = b"\n".join((folder / f"{part}.lua").read_bytes() for part in parts)
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


class Call(NamedTuple):
    """One call of a script. keys and args go to Redis as they are; `again` are arguments that
    follow in a repetition only, when an answer may have been lost.
    """

    name: str
    keys: Sequence[str | bytes]
    args: Sequence[str | bytes | int | float]
    again: Iterable[str | bytes] = ()

    @property
    def step(self) -> str:
        """Its name on an item's way: a move is one of three."""
        return str(self.args[0]) if self.name == "move" else self.name

    def command(self, whole: bool = False, repeated: bool = False) -> tuple[Any, ...]:
        """EVALSHA and its arguments, or EVAL with the text when Redis does not know the script
        (`whole`).
        """
        loaded = load(self.name)
        head = ("EVAL", loaded.text) if whole else ("EVALSHA", loaded.sha)
        words = (*head, len(self.keys), *self.keys, *self.args)
        return (*words, *self.again) if repeated else words


def run(client: redis.Redis, call: Call) -> Any:
    """Send one call with a plain client. Raises redis.RedisError."""
    from redis.exceptions import NoScriptError

    try:
        return client.execute_command(*call.command())
    except NoScriptError:
        return client.execute_command(*call.command(whole=True))
