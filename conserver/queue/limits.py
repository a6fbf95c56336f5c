"""The scripts for limits that hold over all hosts: one function for each, as in calls.py.

They concern rates, links whose servers ask callers to wait, and the bytes and jobs of API tokens.
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
    """Take the next slots of a rate.

    The answer has a number for each slot: the time until it in us, or, for a slot that was not
    given, minus the time in us after which to ask again.

    Args:
        interval_us: between two slots.
        burst: how many slots may be used at once after a pause.
        wanted: how many slots to take.
        none_for_us: no slot is given for so long from now.
        now_us: 0 for Redis's clock.
        farthest_us: no slot is given that is further away; 0: no limit.
    """
    args = [interval_us, burst, wanted, none_for_us, now_us, farthest_us]
    return Call("slots", [keys.rate(name)], args)


def throttle(link: str, for_ms: int) -> Call:
    """Throttle a link on all hosts: no worker calls it for so long. See throttle.lua."""
    return Call("throttle", [keys.CONTROL], [link, for_ms])


def spend(api_token: str, count: int, most: int, *, now_s: int = 0) -> Call:
    """Count bytes that an API token sends today. Nothing is counted if they exceed `most` a day.
    spend.lua has the answers.

    now_s: 0 for Redis's clock.
    """
    return Call("spend", [keys.spent(api_token)], [count, most, DAY_S, now_s])


def submitted(api_token: str, most: int, *, now_s: int = 0) -> Call:
    """Count a job that an API token submits this minute. Nothing is counted if it exceeds `most` a
    minute. spend.lua has the answers.
    """
    return Call("spend", [keys.submitted(api_token)], [1, most, MINUTE_S, now_s])
