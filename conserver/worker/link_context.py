"""The context that a link gets: what it may know and ask for, beside its vCon and its options.

It is used in a chain thread. Pushes and the expiry that a link asks for become part of the item's
progress once the link is done; all else goes through the WorkerInbox to the worker loop.
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
"""What links can count; meters.py has a metric for each."""


class Context:
    """The context argument of a link; conserver.links.LinkContext documents it."""

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
        """What links/notify.py is to tell; None for all other items."""
        return self._item.notification

    def remaining_s(self) -> float | None:
        """Seconds until the soft limit, at least 0.0; None: there is no limit."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - time.monotonic())

    def checkpoint(self) -> None:
        """Block until the vCon as it is now is written."""
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
        """Show how far the link is; whoever follows the item's job sees it within a second.

        Raises TypeError or ValueError for what JSON cannot carry: here, where it is the link's
        fault, and not in the worker loop, which sends it.
        """
        for word in (unit, doing, text):
            word.encode()
        total = None if total is None else float(total)
        self._item.link_progress = LinkProgress(float(done), total, unit, doing, text)

    def push(self, list_name: str, uuid: str | None = None) -> None:
        """Push a uuid on a list when the item settles. Raises ValueError for a name that an ingress
        or egress list must not have, and for a uuid that is no text in UTF-8.
        """
        uuid = str(uuid or self.uuid)
        uuid.encode()  # Here, where it is the link's fault, and not in the worker loop.
        self._pushes.append((check_list_name(list_name), uuid))

    def expire(self, seconds: int) -> None:
        """Let the document expire that many seconds after the item has settled."""
        self._expire_s = seconds

    def count(self, name: str, amount: float) -> None:
        """Add to a counter of this link. Raises ValueError for one that metrics do not have."""
        if name not in COUNTERS:
            raise ValueError(f"there is no counter {name!r}, only {', '.join(COUNTERS)}")
        if self._inbox.numbers is not None:
            self._inbox.numbers.counted.append((self.chain, self.link, name, float(amount)))

    def throttle(self, after_s: float) -> None:
        """Let no item come to this link for so long, in any worker."""
        self._inbox.throttle(self.link, after_s)

    def check_cancelled(self) -> None:
        """Raise Cancelled if an operator has cancelled the item."""
        if self._inbox.is_cancelled(self._item):
            raise Cancelled(f"{self.uuid} was cancelled")

    def keep_effects(self) -> None:
        """Add the effects that the link has asked for to the item's progress, once it is done.

        Not earlier: a checkpoint inside the link would save a push, and the next attempt, which
        runs the link again, would ask for it a second time.
        """
        progress = self._item.progress
        progress.pushes += self._pushes
        if self._expire_s is not None:
            progress.expire_s = self._expire_s
