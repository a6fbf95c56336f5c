"""The state of a schedule in Redis: the latest due time that was fired, and the run of its action.

Every coordinator looks at all schedules of its configuration; fire.lua lets only one coordinator
fire each due time. If the action is a push, fire.lua does it. Any other action is a run: the
coordinator that got the run calls `tend` until the run ends. If that coordinator's host dies,
another host takes over the run when the lease of the run is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from conserver.queue import keys
from conserver.queue.script import Call

LEASE_S = 30.0
"""For how long a run belongs to its host after the host's last call of `tend`."""

EXIT_GIVEN_UP = 75  # EX_TEMPFAIL of sysexits.h
"""The exit code of a run's process that leaves the run to another host."""


@dataclass(frozen=True, slots=True)
class State:
    """A schedule's hash. Times are seconds since 1970; 0 for none.

    Attributes:
        fired_at: the latest due time that was fired or skipped.
        run: the current run; "" for none. host: the host that does the run. trouble: what the run
            waits for.
        wanted: an operator asked for a run, which has not begun.
        passed: why a due time was last skipped: busy, paused or missed. passed_at: that due time.
        last_at: when the last run ended. last_time: the due time of that run.
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
    """Parse the hash of a schedule, as HGETALL returns it; an empty hash is a new schedule's."""
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
    """Fire a schedule if it is due. fire.lua has the answers.

    time_ms: the schedule's latest due time. lease_ms: 0 if the action is to push the payloads.
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
    """Store the progress of a run; `result` ends the run. tend.lua has the answers."""
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
