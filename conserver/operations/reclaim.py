"""Finds and returns items of consumers that are registered with no host ("stranded" items).

A host's hash in Redis names its consumers. If another program deletes that hash, a living host
registers its consumers again. But if the host dies before it does so, no other host knows its
consumers, and their items stay in flight. `stranded` finds such consumers, and `reclaim` returns
their items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conserver.errors import OperationError
from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.process.messages import Blame
from conserver.queue import host_calls, keys, lookup, script
from conserver.queue.host_calls import Returned
from conserver.queue.lookup import WrongKey

_HOST = "reclaimed"  # a host id under which return.lua runs for stranded consumers
_BLAME = Blame("everything", note={"error": "was lost with its host"})
_SCAN = 1000
_HOST_KEYS = (keys.HOSTS, keys.host(""))


class WrongKeysError(OperationError):
    """Keys of hosts have the wrong type, so the registered consumers are unknown."""

    def __init__(self, wrong: Sequence[WrongKey]) -> None:
        super().__init__("\n".join(str(key) for key in wrong), "conflict")
        self.keys = tuple(wrong)


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """How many items were returned."""

    items: int


def stranded(client: Client) -> dict[str, int]:
    """stranded consumer -> how many items it holds.

    It scans all keys in Redis, a thousand per call. It reads the registrations after the scan, so
    that a consumer that was registered during the scan does not count as stranded.
    """
    prefix = keys.inflight("")
    holding = client.scan_iter(match=f"{prefix}*", count=_SCAN, _type="hash")
    found = {key.decode().removeprefix(prefix) for key in holding}
    lost = sorted(found.difference(lookup.consumers(client)))
    pipe = client.pipeline(transaction=False)
    for consumer in lost:
        pipe.hlen(keys.inflight(consumer))
    return {consumer: held for consumer, held in zip(lost, pipe.execute(), strict=True) if held}


def reclaim(client: Client, *, actor: str, keep_s: int = 0) -> Reclaimed:
    """Return the items of all stranded consumers. All of these items become suspects, because any
    of them may have been running when its worker died.

    Args:
        keep_s: see host_calls.return_items.

    Raises:
        WrongKeysError: keys of hosts have the wrong type, so the registered consumers are unknown.
    """
    wrong = [found for found in lookup.wrong_keys(client) if found.key.startswith(_HOST_KEYS)]
    if wrong:
        raise WrongKeysError(wrong)
    items = sum(_return_items(client, consumer, keep_s) for consumer in stranded(client))
    script.run(client, host_calls.reap(_HOST, ""))  # deletes this host, which has no consumer now
    if items:
        audit.record(client, actor, "reclaim", {}, items)
    return Reclaimed(items)


def _return_items(client: Client, consumer: str, keep_s: int) -> int:
    """Return all items of a consumer to the queue. Returns how many there were."""
    items, left = 0, 1
    while left:
        call = host_calls.return_items(_HOST, consumer, _BLAME, keep_s=keep_s)
        returned = Returned(*script.run(client, call))
        items, left = items + returned.returned, returned.left
    # One more call deletes the registration.
    script.run(client, host_calls.return_items(_HOST, consumer, _BLAME))
    return items
