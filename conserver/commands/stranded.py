"""Items that lie with workers that no host knows: found, and handed to the stewards.

A host's hash names its workers, and whoever deletes it is forgiven while the host lives: it
registers again. If the host dies before that, nobody looks where its workers' items are. Nothing is
lost by it; `conserver doctor` says so, and `conserver reclaim` brings them back.
"""

from __future__ import annotations

from conserver.commands import census
from conserver.commands.base import Client, Output, load_settings, note, redis_client
from conserver.commands.keys import wrong_keys
from conserver.errors import EXIT_FAILURE
from conserver.queue import calls, script

HOST = "reclaimed"
"""A host that never beats: the stewards take it for dead after a lease, and return what is held."""

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
    """Has the stewards return what stranded consumers hold.

    Returns:
        0, also if there was nothing; 1 while a key of another type hides who is registered.
    """
    with redis_client(load_settings()) as client:
        wrong = [text for text in wrong_keys(client) if text.startswith("conserver:host")]
        for text in wrong:
            note(f"error: {text}; then reclaim again")
        if wrong:
            return EXIT_FAILURE
        lost = stranded(client)
        for consumer in lost:
            script.run(client, calls.register(HOST, consumer, []))
    items = sum(lost.values())
    output.value({"consumers": len(lost), "items": items})
    if items:
        output.line(f"reclaimed: {items}; a steward returns them within its lease (30 s)")
    else:
        output.line("reclaimed: nothing; every item in flight is of a worker that a host knows")
    return 0
