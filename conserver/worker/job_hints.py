"""JobHints: shows, about once a second, how far the running items of jobs are.

Items that belong to no job cost nothing here. A hint changes nothing of an item (hint.lua): the
statuses of a job, its ends above all, are written by the scripts that move its item.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from conserver.queue import calls
from conserver.queue.calls import Hint
from conserver.queue.retrying_connection import RetryingConnection
from conserver.worker.item import Item


class JobHints:
    """Used by the worker loop only."""

    def __init__(self, consumer: str, redis: RetryingConnection) -> None:
        self._consumer = consumer
        self._redis = redis
        self._shown: dict[str, Hint] = {}  # token -> what was sent last

    def send(self, held: Iterable[Item]) -> None:
        """Send what has changed since the last call, in one call for all items."""
        hints = {item.token: _hint(item) for item in held if item.claimed.job and item.link}
        news = [hint for token, hint in hints.items() if self._shown.get(token) != hint]
        self._shown = hints
        if news:
            self._redis.call(calls.hint(self._consumer, news))


def _hint(item: Item) -> Hint:
    progress = b""
    shown = item.link_progress  # Read once: the chain thread sets it to None when the link ends.
    if shown is not None:
        told = {name: value for name, value in shown._asdict().items() if value != ""}
        progress = orjson.dumps({"unit": "", **told})
    attempts = item.progress.attempts
    return Hint(item.token, item.claimed.epoch, item.link, progress, attempts)
