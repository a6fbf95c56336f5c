"""Notifiers: the threads of a worker that deliver notifications, which tell a job's callback that
the job has ended.

A notification is an item of an ingress list, and is claimed, parked, returned and dead-lettered
like every item. But it runs in the notifiers' own threads, so that a receiver that takes minutes
blocks no chain thread. These threads start with the first notification. A claim asks for
notifications once per TICK_INTERVAL, and also if the worker was woken or the last claim found some.

A notification names a job and its vCon. The worker loop reads the callback from the job's hash, and
the document from Redis or, if Redis has none, from the storages.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from redis.exceptions import ResponseError

from conserver.outbound import callback as callbacks
from conserver.outbound import event as events
from conserver.outbound.callback import Callback
from conserver.outbound.event import Notification
from conserver.queue import keys
from conserver.queue.retrying_connection import RetryingConnection
from conserver.worker.chain import ChainRunner
from conserver.worker.document_loader import DocumentLoader
from conserver.worker.held_items import HeldItems
from conserver.worker.inbox import WorkerInbox
from conserver.worker.item import Item, Route
from conserver.worker.outcomes import OutcomeHandler
from conserver.worker.pool import ChainPool
from conserver.worker.work_queue import WorkQueue


class Notifiers:
    """Prepares notifications for their threads, and collects them. Used by the worker loop only.
    Without a route this worker delivers no notifications.
    """

    def __init__(
        self,
        route: Route | None,
        redis: RetryingConnection,
        held: HeldItems,
        runner: ChainRunner,
        inbox: WorkerInbox,
        documents: DocumentLoader,
        outcomes: OutcomeHandler,
        tick_s: float,
    ) -> None:
        self._route = route
        self._redis = redis
        self._held = held
        self._documents = documents
        self._outcomes = outcomes
        self._tick_s = tick_s
        self._most = (route.config.concurrency or 1) if route is not None else 0
        name = route.name if route is not None else ""
        self.queue = WorkQueue({name: self._most}, inbox)
        self._pool = ChainPool(self._most, self.queue, runner, inbox)
        self._started = False
        self._look_at_s = 0.0

    # ---- claiming --------------------------------------------------------------------------------

    def room(self, now_s: float, *, woken: bool) -> dict[str, int]:
        """How many notifications the next claim asks for: {chain: number}, or {} for none."""
        if self._route is None or not (woken or now_s >= self._look_at_s):
            return {}
        free = self._most - sum(item.route is self._route for item in self._held.by_token.values())
        return {self._route.name: min(free, self._held.free_slots)} if free > 0 else {}

    def looked(self, now_s: float, *, found: bool) -> None:
        """Note that a claim has asked for notifications. If it found some, the next claim asks
        again; else a claim asks after a tick.
        """
        self._look_at_s = now_s if found else now_s + self._tick_s

    # ---- delivering ------------------------------------------------------------------------------

    def recognize(self, item: Item) -> None:
        """Parse the payload of an item, if it is a notification; its callback is not read yet."""
        if item.route is self._route:
            with suppress(ValueError):
                event = events.parse(item.claimed.payload)
                item.uuid, item.notification = event.uuid, Notification(event, None)

    def admit(self, item: Item) -> None:
        """Read a claimed notification's callback and document, then hand it to a thread."""
        item.text = item.claimed.payload
        self.recognize(item)
        if item.notification is None:  # It is another document: the link rejects it.
            self._put(item)
            return
        event = item.notification.event
        item.notification = Notification(event, self._callback_of(event.job))
        if not item.notification.wants_document:
            self._put(item)
            return
        text = self._document_of(event.uuid)
        if not text and self._documents.look_up(item, partial(self._looked_up, item)):
            return
        self._put_with(item, text)

    def _callback_of(self, job: str) -> Callback | None:
        try:
            text = self._redis.command("HGET", keys.job(job), "callback")
            return callbacks.load(text) if text else None
        except (ResponseError, ValueError):  # Another program wrote the key.
            return None

    def _document_of(self, uuid: str) -> bytes:
        """The vCon in Redis, as JSON; b"" if Redis has none."""
        key = keys.document(uuid)
        try:
            return self._redis.command("GET", key) or b""
        except ResponseError:
            kind = self._redis.command("TYPE", key)
            return (self._redis.command("JSON.GET", key) or b"") if kind == b"ReJSON-RL" else b""

    def _looked_up(self, item: Item, document: bytes | None) -> None:
        """Continue a notification after a look-up. document: see DocumentLoader.look_up."""
        if document is None:
            self._outcomes.park_until_available(item)
        else:
            self._put_with(item, document)

    def _put_with(self, item: Item, document: bytes) -> None:
        assert item.notification is not None
        item.notification = replace(item.notification, document=document)
        self._held.count_document(item)
        self._put(item)

    def _put(self, item: Item) -> None:
        if not self._started:
            self._started = True
            self._pool.start()
        self.queue.put([item])

    # ---- results ---------------------------------------------------------------------------------

    def collect(self) -> Iterable[Item]:
        """Take the notifications that the threads have finished since the last call."""
        return self._pool.collect() if self._started else ()

    @property
    def finished(self) -> int:
        """How many finished notifications wait for `collect`."""
        return self._pool.finished
