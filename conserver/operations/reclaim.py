"""Items that are held by consumers which no host knows: found, and returned.

A host's hash names its consumers. If another program deletes that hash, the host registers them
again while it lives. If it dies before that, no other host looks where their items are. The items
are not lost: `stranded` finds them and `reclaim` returns them.
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

_HOST = "reclaimed"  # The host that the consumers belong to while their items are returned.
_BLAME = Blame("everything", notes={"": {"error": "was lost with its host"}})
_SCAN = 1000
_HOST_KEYS = (keys.HOSTS, keys.host(""))


class WrongKeysError(OperationError):
    """Keys of hosts have the wrong type, so nobody can tell which consumers are registered."""

    def __init__(self, wrong: Sequence[WrongKey]) -> None:
        super().__init__("\n".join(str(key) for key in wrong), "conflict")
        self.keys = tuple(wrong)


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """How many items were returned."""

    items: int


def stranded(client: Client) -> dict[str, int]:
    """Consumers that no host has registered, and how many items each of them holds.

    Looks at every key in Redis, a thousand in each call. The registrations are read afterwards, so
    that a consumer which registers meanwhile is not among them.
    """
    prefix = keys.inflight("")
    holding = client.scan_iter(match=f"{prefix}*", count=_SCAN, _type="hash")
    found = {key.decode().removeprefix(prefix) for key in holding}
    lost = sorted(found.difference(lookup.consumers(client)))
    pipe = client.pipeline(transaction=False)
    for consumer in lost:
        pipe.hlen(keys.inflight(consumer))
    return {consumer: held for consumer, held in zip(lost, pipe.execute(), strict=True) if held}


def reclaim(client: Client, *, actor: str) -> Reclaimed:
    """Returns what stranded consumers hold. All of it may have run when they died, so it becomes
    suspect.

    Raises:
        WrongKeysError: a key of another type hides which consumers are registered.
    """
    wrong = [found for found in lookup.wrong_keys(client) if found.key.startswith(_HOST_KEYS)]
    if wrong:
        raise WrongKeysError(wrong)
    items = sum(_return_items(client, consumer) for consumer in stranded(client))
    script.run(client, host_calls.reap(_HOST, ""))  # The host is deleted with its last consumer.
    if items:
        audit.record(client, actor, "reclaim", {}, items)
    return Reclaimed(items)


def _return_items(client: Client, consumer: str) -> int:
    """Return all that a consumer holds. Returns how many items that were."""
    items, left = 0, 1
    while left:
        call = host_calls.return_items(_HOST, consumer, _BLAME)
        returned = Returned(*script.run(client, call))
        items, left = items + returned.returned, returned.left
    # One more call deletes the registration.
    script.run(client, host_calls.return_items(_HOST, consumer, _BLAME))
    return items
