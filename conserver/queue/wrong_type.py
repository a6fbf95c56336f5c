"""Logs keys of the wrong type, which an operator's SET or another program may have made.

keys.SCHEMA says which type each key must have. A key of another type is logged once a minute, with
the remedy. Nothing is repaired here: the present value may belong to another program, and the
earlier value is lost.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from conserver.queue import keys

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TELL_EVERY_S = 60.0


class WrongTypeError(Exception):
    """A command failed because a key has the wrong type. The key has been logged already."""


def kind_of(key: str) -> str:
    """The type that a key must have. A key that is not in the schema is an ingress list."""
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
        """Log that a key has the wrong type `found`."""
        now_s = time.monotonic()
        if now_s < self._again_s.get(key, 0.0):
            return
        self._again_s[key] = now_s + TELL_EVERY_S
        what = f"it must be a {kind_of(key)}; work goes on with it once it is renamed or deleted"
        self._log.error(
            "wrong_type", key=key, found=found, what=f"{what}: RENAME {key} ... or DEL {key}"
        )
