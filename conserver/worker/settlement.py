"""Makes the settle call of an item: the document, the pushes, and the document's expiry."""

from __future__ import annotations

from conserver.config.settings import Settings
from conserver.queue import calls
from conserver.worker.item import Item, OutcomeKind


def settlement(item: Item, settings: Settings) -> calls.Settlement:
    """The settle call for an item that is done, filtered or cancelled."""
    outcome, progress = item.outcome, item.progress
    assert outcome is not None
    pushes = list(progress.pushes)
    if outcome.kind is OutcomeKind.DONE:
        pushes = [(name, item.uuid) for name in item.route.config.egress_lists] + pushes
        status, write = "completed", item.needs_write
    elif outcome.kind is OutcomeKind.FILTERED:
        # A document that was pushed inline and filtered without a change is not written to Redis.
        unwritten = item.draft is None and item.unsaved and not pushes
        status, write = "filtered", item.needs_write and not unwritten
    else:
        pushes, status, write = [], "cancelled", False
    body = item.body if write else b""
    return calls.Settlement(
        item.claimed.token,
        item.claimed.epoch,
        item.uuid,
        item.revision,
        item.route.name,
        body,
        _expiry_s(item, settings, bool(pushes)),
        pushes,
        progress.etags,
        status,
    )


def _expiry_s(item: Item, settings: Settings, pushed: bool) -> int:
    """Seconds until the document expires in Redis; 0 leaves its expiry as it is."""
    if item.notification is not None:  # The document belongs to another item.
        return 0
    if item.progress.expire_s is not None:
        return item.progress.expire_s
    done = item.outcome is not None and item.outcome.kind is OutcomeKind.DONE
    if done and item.route.storages:
        return settings.vcon_redis_expiry_s
    return 0 if pushed else settings.orphan_expiry_s
