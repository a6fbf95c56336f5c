"""What Redis knows of a schedule: the latest time that it fired, and the run of its action.

Every coordinator looks at all schedules of its configuration; `fire` gives each time to one of
them. A push is done by that script itself. Another action is a run: the host that got it tends it
until it ends, and one that dies is taken over after its lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from conserver.queue import keys
from conserver.queue.script import Call

LEASE_S = 30.0
"""For how long a run belongs to its host after that has tended it."""

EXIT_GIVEN_UP = 75  # EX_TEMPFAIL of sysexits.h
"""The exit code of a run's process that leaves the run to another host."""


@dataclass(frozen=True, slots=True)
class State:
    """A schedule's hash. Times are seconds since 1970; 0 for none.

    Attributes:
        fired_at: the latest time that was fired or passed over.
        run: the run that is at work; "" for none. host: who does it. trouble: what it waits for.
        wanted: somebody asked for a run, which has not begun.
        passed: why a time was passed over last: busy, paused or missed. passed_at: that time.
        last_at: when the last run ended. last_time: the time it was for.
        last_result: {"done": count} or {"error": text, "done": count} of the last run.
    """

    fired_at: float = 0.0
    paused: bool = False
    run: str = ""
    host: str = ""
    trouble: str = ""
    wanted: bool = False
    passed: str = ""
    passed_at: float = 0.0
    last_at: float = 0.0
    last_time: float = 0.0
    last_result: Mapping[str, Any] | None = None


def load(found: Mapping[bytes, bytes], definition: str) -> State:
    """The state in a hash as HGETALL gives it; an empty one is that of a new schedule."""
    fields = {name.decode(): value.decode() for name, value in found.items()}

    def seconds(name: str) -> float:
        text = fields.get(name, "")
        return int(text) / 1000 if text.isdecimal() else 0.0

    return State(
        fired_at=seconds(f"fired:{definition}"),
        paused="paused" in fields,
        run=fields.get("run", ""),
        host=fields.get("host", ""),
        trouble=fields.get("trouble", ""),
        wanted="wanted" in fields,
        passed=fields.get("passed", ""),
        passed_at=seconds("passed_ms"),
        last_at=seconds("last_ms"),
        last_time=seconds("last_time"),
        last_result=orjson.loads(fields["last_result"]) if "last_result" in fields else None,
    )


def fire(
    name: str,
    definition: str,
    time_ms: int,
    now_ms: float,
    *,
    catch_up_ms: float,
    host: str,
    lease_ms: int = 0,
    list_name: str = "",
    payloads: Sequence[str | bytes] = (),
) -> Call:
    """Begin what is due of a schedule. See fire.lua for its answers.

    time_ms: the latest time that it had. lease_ms: 0 for a push of payloads on a list.
    """
    arguments: list[str | bytes | int | float] = [
        definition,
        time_ms,
        int(now_ms),
        int(catch_up_ms),
        host,
        lease_ms,
        *payloads,
    ]
    return Call("fire", [keys.schedule(name), list_name], arguments)


def tend(
    name: str,
    run: str,
    now_ms: float,
    *,
    lease_ms: int,
    cursor: str = "",
    result: Mapping[str, Any] | None = None,
    list_name: str = "",
    payloads: Sequence[str] = (),
) -> Call:
    """Tell how far a run is; `result` ends it. See tend.lua for its answers."""
    ended = b"" if result is None else orjson.dumps(result)
    arguments: list[str | bytes | int | float] = [
        run,
        int(now_ms),
        lease_ms,
        cursor,
        ended,
        *payloads,
    ]
    return Call("tend", [keys.schedule(name), list_name], arguments)
