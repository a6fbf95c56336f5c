"""`conserver pause`, `resume`, `drain`: whether lists are taken from.

A paused list is full of whatever producers push; what was taken before goes on to its end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence

from conserver.cli import census
from conserver.cli.base import (
    Client,
    Output,
    configured_lists,
    load_config,
    load_settings,
    note,
    redis_client,
)
from conserver.config.validation import suggest
from conserver.errors import EXIT_FAILURE
from conserver.queue import calls

_LOOK_S = 0.25


def pause(output: Output, names: Sequence[str], config_file: str = "") -> int:
    """Pauses the named lists, or all that the configuration serves."""
    found = load_settings(config_file)
    wanted = list(names) or list(load_config(found).ingress)
    with redis_client(found) as client:
        known = set(census.known_lists(client))
        _pause(client, wanted)
    for name in sorted(set(names) - known):
        hint = suggest(name, known)
        note(f"warning: nobody has ever taken from {name}" + (f" ({hint})" if hint else ""))
    output.value({"paused": wanted})
    output.line(f"paused: {', '.join(wanted) or 'nothing'}")
    return 0


def resume(output: Output, names: Sequence[str], config_file: str = "") -> int:
    """Ends the pause of the named lists, or of all that are paused."""
    with redis_client(load_settings(config_file)) as client:
        wanted = list(names) or census.paused_lists(client)
        resumed = [n for n in wanted if client.hdel(calls.CONTROL, census.paused_field(n))]
    output.value({"resumed": resumed})
    output.line(f"resumed: {', '.join(resumed) or 'nothing'}")
    for name in sorted(set(wanted) - set(resumed)):
        note(f"warning: {name} was not paused")
    return 0


def drain(output: Output, config_file: str = "", *, timeout_s: float) -> int:
    """Pauses every list and waits until no consumer holds anything.

    Returns:
        0 when nothing is in flight, 1 when something still is at the end of the time.
    """
    found = load_settings(config_file)
    configured = configured_lists(found)
    with redis_client(found) as client:
        names = census.all_names(client, configured)
        try:
            _pause(client, names)
            left = _wait(client, timeout_s)
        except KeyboardInterrupt:
            note("interrupted: all lists stay paused until `conserver resume`")
            raise
    output.value({"paused": names, "in_flight": left})
    if left:
        note(f"{left} still in flight; all lists stay paused until `conserver resume`")
        return EXIT_FAILURE
    output.line("nothing is in flight; all lists are paused until `conserver resume`")
    return 0


def _pause(client: Client, names: Iterable[str]) -> None:
    now_ms = str(int(time.time() * 1000))
    for name in names:
        client.hset(calls.CONTROL, census.paused_field(name), now_ms)


def _wait(client: Client, timeout_s: float) -> int:
    """Waits until nothing is in flight, or the time is over; how much still is."""
    deadline_s = time.monotonic() + timeout_s
    left = census.in_flight(client)
    if left:
        note(f"all lists are paused; {left} in flight: waiting for at most {timeout_s:g} s")
    while left and time.monotonic() < deadline_s:
        time.sleep(_LOOK_S)
        before, left = left, census.in_flight(client)
        if 0 < left < before and sys.stderr.isatty():
            note(f"{left} in flight")
    return left
