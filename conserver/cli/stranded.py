"""Items that lie with workers that no host knows: found, and given back.

A host's hash names its workers, and whoever deletes it is forgiven while the host lives: it
registers again. If the host dies before that, nobody looks where its workers' items are. Nothing is
lost by it; `conserver doctor` says so, and `conserver reclaim` brings them back.
"""

from __future__ import annotations

from conserver.cli import census
from conserver.cli.base import Client, Output, load_settings, note, redis_client
from conserver.cli.keys import wrong_keys
from conserver.errors import EXIT_FAILURE
from conserver.queue import calls, script
from conserver.queue.calls import Blame, Returned

_HOST = "reclaimed"  # While items go back they are this host's.
_BLAME = Blame("everything", notes={"": {"error": "was lost with its host"}})

_SCAN = 1000


def stranded(client: Client) -> dict[str, int]:
    """Consumers that no host has registered, and how many items each of them holds.

    Looks at every key in Redis, a thousand in each call. The registrations are read afterwards, so
    that whoever has registered meanwhile is not among them.
    """
    prefix = calls.inflight_key("")
    keys = client.scan_iter(match=f"{prefix}*", count=_SCAN, _type="hash")
    found = {key.decode().removeprefix(prefix) for key in keys}
    lost = sorted(found.difference(census.consumers(client)))
    pipe = client.pipeline(transaction=False)
    for consumer in lost:
        pipe.hlen(calls.inflight_key(consumer))
    return {consumer: held for consumer, held in zip(lost, pipe.execute(), strict=True) if held}


def reclaim(output: Output) -> int:
    """Gives back what stranded consumers hold: to returned, or to the suspects, for all of it may
    have been at work when they died.

    Returns:
        0, also if there was nothing; 1 while a key of another type hides who is registered.
    """
    with redis_client(load_settings()) as client:
        wrong = [text for text in wrong_keys(client) if text.startswith("conserver:host")]
        for text in wrong:
            note(f"error: {text}; then reclaim again")
        if wrong:
            return EXIT_FAILURE
        items = sum(_return_items(client, consumer) for consumer in stranded(client))
        script.run(client, calls.reap(_HOST, ""))  # It is forgotten with its last consumer.
    output.value({"items": items})
    output.line(f"reclaimed: {items or 'nothing, all in flight is of workers that a host knows'}")
    return 0


def _return_items(client: Client, consumer: str) -> int:
    """Return all that a consumer holds; how much it was."""
    items, left = 0, 1
    while left:
        call = calls.return_items(_HOST, consumer, _BLAME)
        returned = Returned(*script.run(client, call))
        items, left = items + returned.returned, returned.left
    script.run(client, calls.return_items(_HOST, consumer, _BLAME))  # and its registration goes
    return items
