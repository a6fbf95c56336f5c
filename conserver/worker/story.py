"""StoryWriter: records the events of each attempt at an item (queue/stories.py).

CONSERVER_STORIES says which items have a story: those of jobs (the default), all, or none. The
thread that works on the item adds events. When the item has left the worker, its Attempt is sent to
Redis with the next call of the worker loop, at the latest after about a second. An Attempt can get
lost; nothing depends on it.
"""

from __future__ import annotations

import time

from conserver.process.boot import Boot
from conserver.queue import stories
from conserver.queue.retrying_connection import RetryingConnection
from conserver.queue.stories import EVENTS_MAX, TEXT_CHARS, Attempt, Event
from conserver.telemetry.redact import redact_text
from conserver.worker.item import Item

ENDS = frozenset({"completed", "filtered", "cancelled"})


def add(
    item: Item,
    kind: str,
    name: str = "",
    *,
    since_s: float = 0.0,
    text: str = "",
    good: bool = True,
) -> None:
    """Add an event to the item's attempt, if the item has one.

    since_s: when the event began, by time.monotonic(); 0.0 for an event without a duration.
    """
    attempt = item.story
    if attempt is None:
        return
    now_s = time.monotonic()
    begun_ms = round(((since_s or now_s) - item.claimed_at_s) * 1000)
    to_ms = round((now_s - item.claimed_at_s) * 1000)
    if text:
        text = redact_text(text)[:TEXT_CHARS]
    if len(attempt.events) >= EVENTS_MAX:
        del attempt.events[EVENTS_MAX // 2]  # The first and the last events say most.
    attempt.events.append(Event(kind, name, begun_ms, to_ms, text, good))


class StoryWriter:
    """Begins and ends the attempts. Used by the worker loop only."""

    def __init__(self, boot: Boot, redis: RetryingConnection) -> None:
        self._boot = boot
        self._redis = redis
        self._which = boot.settings.stories

    def begin(self, item: Item) -> None:
        """Give a newly claimed item an Attempt, if CONSERVER_STORIES asks for one."""
        claimed = item.claimed
        if self._which == "off" or (self._which == "jobs" and "#" not in claimed.token):
            return
        item.story = Attempt(
            token=claimed.token,
            number=claimed.epoch,
            job=claimed.job,
            list_name=claimed.list,
            chain=item.route.name,
            host=self._boot.host,
            consumer=self._boot.consumer,
            claimed_ms=round(time.time() * 1000),
            deaths=claimed.deaths,
            suspect=claimed.suspect,
        )

    def end(self, item: Item, kind: str, name: str = "", text: str = "") -> None:
        """Add the last event to the item's attempt, and let the next call send the attempt."""
        if item.story is None:
            return
        add(item, kind, name, text=text, good=kind in ENDS)
        attempt, item.story = item.story, None
        settings = self._boot.settings
        keep_s = settings.job_expiry_s if kind in ENDS else settings.job_max_s
        if item.uuid:
            self._redis.beside += stories.commands(item.uuid, attempt, keep_s)

    def flush(self) -> None:
        """Send the attempts that no call has sent. Called about once a second, and at the end."""
        if self._redis.beside:
            self._redis.command("PING")
