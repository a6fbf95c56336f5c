"""What tests of links and of what they use share; conserver.testing has the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson

from conserver.errors import Cancelled
from conserver.vcon.document import Vcon


class Log:
    """Remembers the lines that a link logs."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append((level, event, fields))

    def at(self, level: str) -> list[tuple[str, dict[str, Any]]]:
        """(event, fields) of the lines of a level."""
        return [(event, fields) for found, event, fields in self.lines if found == level]


class Context:
    """A LinkContext for one link on one vCon, outside of any worker."""

    def __init__(self, *, left_s: float | None = None, cancel_after: int | None = None) -> None:
        self.chain, self.link, self.uuid, self.attempt = "chain", "link", "u-1", 1
        self.last_attempt = False
        self.log = Log()
        self.pushed: list[tuple[str, str | None]] = []
        self.expiries: list[int] = []
        self.shown: list[tuple[float, float | None, str]] = []
        self.counted: list[tuple[str, float]] = []
        self.checkpoints = 0
        self.looks = 0
        self.texts: list[str] = []
        self.throttled: list[float] = []
        self._end = None if left_s is None else time.monotonic() + left_s
        self._cancel_after = cancel_after

    def remaining_s(self) -> float | None:
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def checkpoint(self) -> None:
        self.checkpoints += 1

    def push(self, list_name: str, uuid: str | None = None) -> None:
        self.pushed.append((list_name, uuid))

    def count(self, name: str, amount: float) -> None:
        self.counted.append((name, amount))

    def expire(self, seconds: int) -> None:
        self.expiries.append(seconds)

    def progress(
        self,
        done: float,
        total: float | None = None,
        unit: str = "",
        *,
        doing: str = "",
        text: str = "",
    ) -> None:
        self.shown.append((done, total, unit))
        self.texts.append(text)

    def throttle(self, after_s: float) -> None:
        self.throttled.append(after_s)

    def check_cancelled(self) -> None:
        self.looks += 1
        if self._cancel_after is not None and self.looks > self._cancel_after:
            raise Cancelled("an operator cancelled it")


def vcon(**members: Any) -> Vcon:
    """A vCon with these members."""
    return Vcon.parse(orjson.dumps({"uuid": "u-1", **members}))
