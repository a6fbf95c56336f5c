"""Context: the third argument of a link, beside its vCon and its options.

A link uses its context in a chain thread. The pushes and the expiry that it asks for become part of
the item's progress once the link is done. Everything else goes to the worker loop at once, through
the WorkerInbox or the Item.
"""

from __future__ import annotations

import time

from conserver.config.names import check_list_name
from conserver.errors import Cancelled
from conserver.outbound.event import Notification
from conserver.telemetry import log
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import Item, LinkProgress

COUNTERS = ("audio_seconds", "transcription_seconds")
"""The counters that links may add to. meters.py has a metric for each."""


class Context:
    """The context of one run of a link. conserver.links.LinkContext documents the interface."""

    __slots__ = (
        "_deadline_s",
        "_expire_s",
        "_inbox",
        "_item",
        "_pushes",
        "attempt",
        "chain",
        "last_attempt",
        "link",
        "uuid",
    )

    def __init__(self, item: Item, link: str, deadline_s: float | None, inbox: WorkerInbox) -> None:
        """deadline_s: the soft time limit, by time.monotonic()."""
        self._item = item
        self._deadline_s = deadline_s
        self._inbox = inbox
        self._pushes: list[tuple[str, str]] = []
        self._expire_s: int | None = None
        self.chain = item.route.name
        self.link = link
        self.uuid = item.uuid
        self.attempt = item.progress.runs.get(link, 0) + 1
        self.last_attempt = item.progress.failures >= item.route.config.retries

    @property
    def log(self) -> log.Logger:
        """A logger bound to this vCon, chain and link."""
        return log.get_logger(vcon=self.uuid, chain=self.chain, link=self.link)

    @property
    def notification(self) -> Notification | None:
        """The notification that links/notify.py delivers; None for all other items."""
        return self._item.notification

    def remaining_s(self) -> float | None:
        """Seconds until the soft time limit, at least 0.0; None if there is no limit."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - time.monotonic())

    def checkpoint(self) -> None:
        """Block until the vCon is written to Redis with its changes up to now."""
        self._inbox.checkpoint(self._item)

    def progress(
        self,
        done: float,
        total: float | None = None,
        unit: str = "",
        *,
        doing: str = "",
        text: str = "",
    ) -> None:
        """Show how far the link is. The item's job shows it within about a second.

        Raises TypeError or ValueError for values that JSON cannot hold. Without this check, the
        worker loop would raise the error when it sends the values.
        """
        for word in (unit, doing, text):
            word.encode()
        total = None if total is None else float(total)
        self._item.link_progress = LinkProgress(float(done), total, unit, doing, text)

    def push(self, list_name: str, uuid: str | None = None) -> None:
        """Push a uuid on a list when the item settles.

        Raises ValueError for a name that an ingress or egress list must not have, and for a uuid
        that UTF-8 cannot encode.
        """
        uuid = str(uuid or self.uuid)
        uuid.encode()  # Otherwise the worker loop would raise the error.
        self._pushes.append((check_list_name(list_name), uuid))

    def expire(self, seconds: int) -> None:
        """Let the document expire in Redis this long after the item has settled."""
        self._expire_s = seconds

    def count(self, name: str, amount: float) -> None:
        """Add to a counter of this link. Raises ValueError for a name that is not in COUNTERS."""
        if name not in COUNTERS:
            raise ValueError(f"there is no counter {name!r}, only {', '.join(COUNTERS)}")
        if self._inbox.numbers is not None:
            self._inbox.numbers.counted.append((self.chain, self.link, name, float(amount)))

    def throttle(self, after_s: float) -> None:
        """Throttle this link in all workers: no item reaches it for after_s."""
        self._inbox.throttle(self.link, after_s)

    def check_cancelled(self) -> None:
        """Raise Cancelled if an operator has cancelled the item."""
        if self._inbox.is_cancelled(self._item):
            raise Cancelled(f"{self.uuid} was cancelled")

    def keep_effects(self) -> None:
        """Add the pushes and the expiry that the link has asked for to the item's progress.

        Called once the link is done. If pushes were added earlier, a checkpoint inside the link
        would save them, and the next attempt, which runs the link again, would push twice.
        """
        progress = self._item.progress
        progress.pushes += self._pushes
        if self._expire_s is not None:
            progress.expire_s = self._expire_s
