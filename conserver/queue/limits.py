"""What is limited over all hosts: rates, links whose servers ask to wait, what a token uses up.

One function per script, as in calls.py.
"""

from __future__ import annotations

from conserver.queue import keys
from conserver.queue.script import Call

DAY_S = 86_400
MINUTE_S = 60


def slots(
    name: str,
    interval_us: float,
    burst: int,
    wanted: int,
    *,
    none_for_us: int = 0,
    now_us: int = 0,
    farthest_us: int = 0,
) -> Call:
    """Take the next slots of a rate: how many us each is away. See slots.lua.

    none_for_us: no slot is given for so long from now. now_us: 0 for Redis's clock. farthest_us: no
    slot is given that is further away (0: any); in its place is, negative, when to ask again.
    """
    args = [interval_us, burst, wanted, none_for_us, now_us, farthest_us]
    return Call("slots", [keys.rate(name)], args)


def throttle(link: str, for_ms: int) -> Call:
    """Nobody calls a link for so long. See throttle.lua."""
    return Call("throttle", [keys.CONTROL], [link, for_ms])


def spend(api_token: str, count: int, most: int, *, now_s: int = 0) -> Call:
    """Count bytes that an API token sends today, unless they were too many. See spend.lua.

    now_s: 0 for Redis's clock.
    """
    return Call("spend", [keys.spent(api_token)], [count, most, DAY_S, now_s])


def submitted(api_token: str, most: int, *, now_s: int = 0) -> Call:
    """Count a job that an API token submits this minute, unless it is one too many. See `spend`."""
    return Call("spend", [keys.submitted(api_token)], [1, most, MINUTE_S, now_s])
