"""What is limited over all hosts: rates, links whose servers ask to wait, bytes of a token.

One function per script, as in calls.py.
"""

from __future__ import annotations

from conserver.queue import keys
from conserver.queue.script import Call


def slots(
    name: str, interval_us: float, burst: int, wanted: int, *, none_for_us: int = 0, now_us: int = 0
) -> Call:
    """Take the next slots of a rate: how many us each is away. See slots.lua.

    none_for_us: no slot is given for so long from now. now_us: 0 for Redis's clock.
    """
    return Call("slots", [keys.rate(name)], [interval_us, burst, wanted, none_for_us, now_us])


def throttle(link: str, for_ms: int) -> Call:
    """Nobody calls a link for so long. See throttle.lua."""
    return Call("throttle", [keys.CONTROL], [link, for_ms])


def spend(token: str, count: int, most: int, *, now_s: int = 0) -> Call:
    """Count bytes that a token sends today, unless they were too many. See spend.lua."""
    return Call("spend", [keys.spent(token)], [count, most, now_s])
