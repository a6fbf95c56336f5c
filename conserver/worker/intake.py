"""Intake: claims items from Redis and prepares them for the chain threads.

1. claim_schedule.py says which chains a claim is due for, prefetch.py and rates.py say how many
   items it asks for.
2. The worker claims nothing while it is full or runs a suspect (held_items.py), and while it
   finishes its items so that it can run a suspect (claim_schedule.py).
3. The intake reads the documents of claimed items (document_loader.py) and hands the items to the
   chain threads. If an earlier worker has finished an item's links, the item is stored instead.
4. A suspect runs alone. The intake marks it as begun in Redis before it reads the document.
5. An item that must not run (refusals.py) is dead-lettered without being started.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from redis.exceptions import ResponseError

from conserver.process import failpoints
from conserver.process.boot import Boot
from conserver.process.shared_status import State
from conserver.queue import calls, keys
from conserver.queue.record import Claimed, Progress, Source
from conserver.queue.retrying_connection import RetryingConnection
from conserver.queue.wrong_type import Complaints
from conserver.telemetry import log
from conserver.worker import spans
from conserver.worker.claim_schedule import ClaimSchedule, ClaimState
from conserver.worker.document_loader import DocumentLoader
from conserver.worker.held_items import HELD_BYTES_MAX, HeldItems
from conserver.worker.item import Item
from conserver.worker.meters import Meters
from conserver.worker.notifiers import Notifiers
from conserver.worker.outcomes import OutcomeHandler
from conserver.worker.pool import ChainPool
from conserver.worker.prefetch import Prefetch
from conserver.worker.rates import Rates
from conserver.worker.refusals import refusal
from conserver.worker.routes import Routes
from conserver.worker.story import StoryWriter


class Intake:
    """Claims items. Used by the worker loop only.

    claims: the number of the last claim. prefetch, schedule: how many items it claims, and when.
    """

    def __init__(
        self,
        boot: Boot,
        routes: Routes,
        redis: RetryingConnection,
        pool: ChainPool,
        held: HeldItems,
        documents: DocumentLoader,
        outcomes: OutcomeHandler,
        rates: Rates,
        story_writer: StoryWriter,
        notifiers: Notifiers,
        meters: Meters | None = None,
    ) -> None:
        self._meters = meters
        self._boot = boot
        self._routes = routes
        self._notifiers = notifiers
        self._chains = frozenset(pool.queue.threads)
        self._redis = redis
        self._work_queue = pool.queue
        self._held = held
        self._documents = documents
        self._outcomes = outcomes
        self._rates = rates
        self._story_writer = story_writer
        self._log = log.get_logger()
        self.prefetch = Prefetch(pool)
        self.schedule = ClaimSchedule(boot.coordinator, boot.settings.tick_interval_ms / 1000)
        self._complaints = Complaints(self._log)
        self.claims = 0
        self._limits = calls.ClaimLimits(
            etags=int(any(route.storages for route in routes.all)),
            payload_bytes=boot.settings.max_payload_bytes,
            parked_cap=boot.settings.parked_cap,
            job_keep_s=boot.settings.job_expiry_s,
            job_max_s=boot.settings.job_max_s,
        )

    # ---- called by the worker loop ---------------------------------------------------------------

    def tell_coordinator(self, now_s: float) -> float | None:
        """Send the queued messages to the coordinator if they are due or the worker holds no item.

        Returns:
            Seconds until the queued messages are due; None if no message is queued.
        """
        sender = self.schedule.sender
        send_s = sender.due_in_s(now_s)
        if send_s and self._held:
            return send_s
        if send_s is not None:
            sender.flush()
        return None

    def read_cancelled(self, known: set[str]) -> set[str]:
        """Read the tokens of the held items that were cancelled. Returns `known` if the key has the
        wrong type.
        """
        key = keys.cancelled(self._boot.consumer)
        try:
            named = self._redis.command("SMEMBERS", key)
        except ResponseError:
            self._complaints.tell(key, self._redis.command("TYPE", key).decode())
            return known
        return {token.decode() for token in named} & self._held.by_token.keys()

    def return_strays(self) -> None:
        """Return stray items: Redis has them in flight for this consumer, but this worker does not
        hold them (stray.lua).
        """
        tokens = list(self._held.by_token)
        call = calls.stray(self._boot.consumer, self.claims, tokens)
        strays = 0
        while some := self._redis.call(call):
            strays += some
        if strays:
            what = "Redis had items in flight for this worker that it does not hold"
            self._log.warning("strays_returned", count=strays, what=what)

    # ---- claiming --------------------------------------------------------------------------------

    def next_claim_s(self, now_s: float) -> float | None:
        """Seconds until the next claim; None if the worker waits for room."""
        times_s = (self.schedule.due_in_s(now_s), self._rates.opens_in_s(now_s))
        return min((one for one in times_s if one is not None), default=None)

    def claim(self) -> bool:
        """Make a claim if the worker has room and items may wait.

        Returns:
            False if the worker's registration is void. The worker must end then.
        """
        now_s = time.monotonic()
        if self._held.is_full or (self._held and self.schedule.finishes_first(now_s)):
            self.schedule.no_claim(has_room=False)
            return True
        emptied = self.schedule.emptied(now_s)
        thread_idle = self._work_queue.idle_threads > 0
        if emptied and self._chains <= emptied:  # Most turns end here, so no room is computed.
            self.schedule.no_claim(thread_idle=thread_idle)
            return True
        room = self._room(now_s)
        if room.keys() <= emptied:
            self.schedule.no_claim(has_room=bool(room), thread_idle=thread_idle)
            return True
        return self._claim(room)

    def _room(self, now_s: float) -> dict[str, int]:
        """Chain -> how many items to ask for on each of its lists; only chains with room."""
        room = self.prefetch.wanted(len(self._held), self._held.free_slots)
        room = self._rates.claimable(room, now_s, self._held.by_token.values())
        woken = self.schedule.state is ClaimState.WOKEN
        return room | self._notifiers.room(now_s, woken=woken)

    def _claim(self, room: dict[str, int]) -> bool:
        """Make one claim. room: see _room. Returns what `claim` returns."""
        self.claims += 1
        limits = self._limits._replace(
            most=min(calls.BATCH_ITEMS, max(room.values())),
            most_bytes=min(calls.BATCH_BYTES, HELD_BYTES_MAX - self._held.document_bytes),
        )
        demands = [
            calls.Demand(name, room[route.name])
            for name, route in self._routes.in_order()
            if route.name in room
        ]
        asks_for_notifications = not self._chains.issuperset(room)
        if asks_for_notifications:
            # Notifications come first: they are few, and a chain with a backlog would fill the
            # claim.
            demands.sort(key=lambda demand: demand.list != keys.NOTIFICATIONS)
        # Only a worker that does nothing else may run a suspect. A hung storage call counts as
        # work, because it may kill the process, too.
        empty = not self._held and not self._documents.has_hung_calls
        if empty:
            self._redis.close_if_ended()  # see WorkerLoop._tick
        host, consumer, known = self._boot.host, self._boot.consumer, self._held.by_token
        call = calls.claim(host, consumer, self.claims, empty, demands, limits, known)
        began_ns = time.time_ns()
        claim = calls.read_claim(self._redis.call(call))
        if claim.void:
            self._log.warning("registration_void", what="ending; a replacement takes over")
            self._boot.send("void")
            return False
        if claim.throttled:
            self._rates.throttles.learn(claim.throttled)
        for key, kind in claim.broken:
            self._complaints.tell(key, kind)
        if claim.items:
            self._admit(claim.items, began_ns)
            self._boot.status.state = State.WORKING
        if asks_for_notifications:
            found = any(one.list == keys.NOTIFICATIONS for one in claim.items)
            self._notifiers.looked(time.monotonic(), found=found)
        thread_idle = self._work_queue.idle_threads > 0
        self.schedule.claimed(claim, frozenset(room), thread_idle=thread_idle)
        return True

    # ---- claimed items ---------------------------------------------------------------------------

    def _admit(self, claimed: Sequence[Claimed], began_ns: int) -> None:
        """Hold the claimed items and read their documents. Then hand each item to the chain
        threads, to the notifiers, or to be stored or dead-lettered.
        """
        if self._meters is not None:
            self._meters.claimed(claimed)
        now_s = time.monotonic()
        items: list[Item] = []
        notifications: list[Item] = []
        # All are held before anything else is sent: see WorkerLoop._tick.
        new = [self._hold(one, now_s) for one in claimed]
        expiry_s = self._boot.settings.context_expiry_s
        spans.claimed(new, self._redis, self._boot.consumer, expiry_s, began_ns)
        for item in new:
            one = item.claimed
            self._story_writer.begin(item)
            # Only such items can be refused or must start anew. The test spares all others a call.
            if one.deaths or one.replaced or one.refused:
                self._judge(item)
            if one.suspect:
                self._held.suspect = item  # Nothing else is claimed until it has left.
            if item.outcome is not None:
                self._outcomes.chain_ended(item)
            # A suspect is marked before its document is read, because reading may kill the worker.
            elif not one.suspect or self._mark_begun(item):
                (notifications if item.route is self._routes.notifications else items).append(item)
        for item in notifications:
            self._notifiers.admit(item)
        self._documents.read(items)
        failpoints.at("read")
        ready: list[Item] = []
        for item in items:
            self._held.count_document(item)
            missing = item.claimed.source is Source.MISSING
            if missing and self._documents.look_up(item, partial(self._looked_up, item)):
                continue
            if self._owes_only_storages(item):
                self._outcomes.resume_storing(item)
            else:
                ready.append(item)
        if ready:
            self._work_queue.put(ready)

    def _hold(self, claimed: Claimed, now_s: float) -> Item:
        state = claimed.state
        try:
            progress = Progress.load(state)
        except ValueError as error:  # It must not end one worker after the other.
            claimed.refused = "unreadable", str(error)
            progress, state = Progress(), b""
        item = self._held.new_item(claimed, self._routes.of(claimed.list), progress, now_s)
        item.saved_state = state
        if claimed.payload[:1] != b"{":
            item.uuid = claimed.payload.decode("utf-8", "replace")
        self._held.add(item)
        return item

    def _judge(self, item: Item) -> None:
        """Refuse an item that must not run. Start an item anew whose document was replaced."""
        claimed, config = item.claimed, item.route.config
        refused = refusal(claimed, config.max_deliveries, self._limits.payload_bytes)
        if refused is not None:
            item.outcome = refused
            self._notifiers.recognize(item)
        elif claimed.replaced:
            # The record lists links as done, but the new document lacks their changes.
            self._log.info("started_anew", **item.log_fields(), reason="its document was replaced")
            item.start_anew()

    def _mark_begun(self, item: Item) -> bool:
        """Mark a suspect as begun. From now on a death of this worker counts against it.

        Returns:
            False if another consumer has the item.
        """
        begin = calls.begin(self._boot.consumer, item.token, item.claimed.epoch)
        if self._redis.call(begin):
            # Not sooner: the item's name may have to be read from its document.
            self._log.warning("suspect_begun", **item.log_fields(), deliveries=item.claimed.deaths)
            return True
        self._story_writer.end(item, "lost")
        spans.ended(item, "lost")
        self._held.remove(item)
        return False

    def _owes_only_storages(self, item: Item) -> bool:
        """Whether an earlier worker has finished all links of the chain as it is now."""
        progress, route = item.progress, item.route
        if progress.owed is None or item.claimed.source is not Source.STORED or not item.text:
            return False
        return tuple(progress.links) == route.names

    def _looked_up(self, item: Item, document: bytes | None) -> None:
        """Continue an item after a look-up. document: see DocumentLoader.look_up."""
        if document is None:
            self._outcomes.park_until_available(item)
        elif document:
            item.text, item.unsaved, item.revision = document, True, calls.ABSENT
            item.claimed.source = Source.STORED
            self._held.count_document(item)
            self._outcomes.save_restored(item, lambda _: self._work_queue.put([item]))
        else:
            self._work_queue.put([item])
