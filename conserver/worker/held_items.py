"""HeldItems: every item that a worker has claimed and not yet settled, parked or released."""

from __future__ import annotations

from conserver.process.shared_status import ITEMS_MAX, SharedStatus
from conserver.queue.record import Claimed, Progress
from conserver.worker.item import Item, Route

HELD_BYTES_MAX = 64 * 1024 * 1024


class HeldItems:
    """At most ITEMS_MAX items, with HELD_BYTES_MAX bytes of documents. The last claim may exceed
    that number of bytes. Used by the worker loop only.

    suspect: the item that runs alone because it may have killed a worker; None if there is none.
    """

    def __init__(self, status: SharedStatus) -> None:
        self._status = status
        self._free_slots = list(range(ITEMS_MAX))
        self.by_token: dict[str, Item] = {}
        self.document_bytes = 0
        self.suspect: Item | None = None

    def __len__(self) -> int:
        return len(self.by_token)

    @property
    def free_slots(self) -> int:
        """How many more items there is room for."""
        return len(self._free_slots)

    @property
    def is_full(self) -> bool:
        """Whether the worker may claim nothing: a bound is reached, or a suspect runs alone."""
        full = not self._free_slots or self.document_bytes >= HELD_BYTES_MAX
        return full or self.suspect is not None

    def new_item(self, claimed: Claimed, route: Route, progress: Progress, now_s: float) -> Item:
        """Make an Item and give it a free status slot. The caller then calls `add`."""
        return Item(claimed, route, progress, self._free_slots.pop(), now_s)

    def add(self, item: Item) -> None:
        """Hold the item and show it in SharedStatus. The supervisor reads it there if the worker
        dies.
        """
        claimed = item.claimed
        # Without a uuid, the document was pushed inline; a chain thread parses it later.
        name = item.name if item.uuid else ""
        self.by_token[claimed.token] = item
        self._status.hold(item.status_slot, claimed.token, claimed.epoch, name, item.route.name)

    def count_document(self, item: Item) -> None:
        """Correct document_bytes by the present size of the item's document."""
        size_bytes = len(item.text) + (len(item.notification.document) if item.notification else 0)
        self.document_bytes += size_bytes - item.counted_bytes
        item.counted_bytes = size_bytes

    def remove(self, item: Item) -> None:
        """Forget an item that has left this worker. A second call does nothing."""
        if item.status_slot < 0:
            return
        # After a failover that undid a claim, this worker may have claimed the token again.
        # by_token then has the newer Item.
        token = item.claimed.token
        if self.by_token.get(token) is item:
            del self.by_token[token]
        self.document_bytes -= item.counted_bytes
        self._status.free(item.status_slot)
        self._free_slots.append(item.status_slot)
        item.status_slot = -1
        if item is self.suspect:
            self.suspect = None
