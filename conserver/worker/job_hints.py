"""JobHints: writes the progress of the running items of jobs to Redis, about once a second.

A hint changes neither the item nor the status of its job (hint.lua): the scripts that move the item
write the status.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from conserver.queue import calls
from conserver.queue.calls import Hint
from conserver.queue.retrying_connection import RetryingConnection
from conserver.telemetry.redact import redact_texts
from conserver.worker.item import Item


class JobHints:
    """Sends hints. Used by the worker loop only."""

    def __init__(self, consumer: str, redis: RetryingConnection) -> None:
        self._consumer = consumer
        self._redis = redis
        self._shown: dict[str, Hint] = {}  # token -> what was sent last

    def send(self, held: Iterable[Item]) -> None:
        """Send the hints that have changed since the last time, all in one call to Redis."""
        hints = {item.token: _hint(item) for item in held if item.claimed.job and item.link}
        news = [hint for token, hint in hints.items() if self._shown.get(token) != hint]
        self._shown = hints
        if news:
            self._redis.call(calls.hint(self._consumer, news))


def _hint(item: Item) -> Hint:
    progress = b""
    shown = item.link_progress  # Read once: the chain thread sets it to None when the link ends.
    if shown is not None:
        told = {name: redact_texts(value) for name, value in shown._asdict().items() if value != ""}
        progress = orjson.dumps({"unit": "", **told})
    attempts = item.progress.attempts
    return Hint(item.token, item.claimed.epoch, item.link, progress, attempts)
