"""Keys of the wrong type: an operator's SET, another program's key of the same name.

1. Knows which type each key must have (keys.SCHEMA).
2. Logs a key that has another one, with what to do, once a minute.

Nothing is repaired here: what the key holds now may belong to another program, and what it held
before is lost.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from conserver.queue import keys

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TELL_EVERY_S = 60.0


class WrongTypeError(Exception):
    """A command failed because a key holds another type than it must. The key has been logged."""


def kind_of(key: str) -> str:
    """The type that a key must have. A key that is not in the schema is one of the lists."""
    for known in keys.SCHEMA:
        if key == known.pattern or (known.beginning and key.startswith(known.beginning)):
            return known.kind
    return "list"


def is_wrong_type(error: Exception) -> bool:
    """Whether Redis refused a command for the type of a key. Redis 6.2 wraps errors of scripts."""
    return "WRONGTYPE" in str(error)


class Complaints:
    """Logs keys of the wrong type, each once a minute."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._again_s: dict[str, float] = {}

    def tell(self, key: str, found: str) -> None:
        """Log that a key holds the type `found` and must not."""
        now_s = time.monotonic()
        if now_s < self._again_s.get(key, 0.0):
            return
        self._again_s[key] = now_s + TELL_EVERY_S
        what = f"it must be a {kind_of(key)}; work goes on with it once it is renamed or deleted"
        self._log.error(
            "wrong_type", key=key, found=found, what=f"{what}: RENAME {key} ... or DEL {key}"
        )
