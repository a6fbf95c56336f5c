"""Keys of the wrong type: an operator's SET, another program's key of the same name.

1. Knows which type each key must have.
2. Tells of a key that has another one, and what to do: loudly, and once a minute.

Nothing is mended here: what the key holds now may be somebody's, and what it held is gone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

TELL_EVERY_S = 60.0
KINDS = {
    "conserver:returned:": "list",
    "conserver:suspects:": "list",
    "conserver:parked:": "zset",
    "conserver:dead:": "zset",
    "conserver:inflight:": "hash",
    "conserver:strange:": "hash",
    "conserver:host:": "hash",
    "conserver:hosts": "set",
    "conserver:lists": "set",
    "conserver:cancelled:": "set",
    "conserver:control": "hash",
    "conserver:revision:": "hash",
}
"""How a key of ours begins -> its type; the key schema says what each holds."""


class WrongTypeError(Exception):
    """A command could not be carried out: a key holds another type than it must. It was told of."""


def kind_of(key: str) -> str:
    """The type that a key must have; every key that is not ours is a list here."""
    for beginning, kind in KINDS.items():
        if key == beginning or (beginning.endswith(":") and key.startswith(beginning)):
            return kind
    return "list"


def is_wrong_type(error: Exception) -> bool:
    """Whether that is what Redis complains of. Redis 6.2 wraps what a script ran into."""
    return "WRONGTYPE" in str(error)


class Complaints:
    """Tells of keys, each once a minute."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._again_s: dict[str, float] = {}

    def tell(self, key: str, found: str) -> None:
        """A key holds `found` and must not."""
        now_s = time.monotonic()
        if now_s < self._again_s.get(key, 0.0):
            return
        self._again_s[key] = now_s + TELL_EVERY_S
        what = f"it must be a {kind_of(key)}; work goes on with it once it is renamed or deleted"
        self._log.error(
            "wrong_type", key=key, found=found, what=f"{what}: RENAME {key} ... or DEL {key}"
        )
