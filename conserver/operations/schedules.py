"""The schedules of a configuration: show them with last and next times, run, pause, resume."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from conserver.config.model import Config
from conserver.config.schedules import ScheduleConfig
from conserver.config.validation import suggest
from conserver.errors import OperationError
from conserver.operations import audit
from conserver.operations.connection import Client
from conserver.queue import keys, schedules, wishes
from conserver.queue.schedules import State


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule.

    Attributes:
        action, does: the name of its action, and a sentence about it.
        next_at: when it fires next, in seconds since 1970; 0 if it is disabled or paused.
    """

    name: str
    cron: str
    timezone: str
    enabled: bool
    action: str
    does: str
    next_at: float
    state: State


def read(client: Client, config: Config) -> list[Schedule]:
    """All schedules of the configuration, in its order."""
    pipe = client.pipeline(transaction=False)
    for name in config.schedules:
        pipe.hgetall(keys.schedule(name))
    found = pipe.execute(raise_on_error=False)
    return [
        _schedule(name, one, state if isinstance(state, dict) else {})
        for (name, one), state in zip(config.schedules.items(), found, strict=True)
    ]


def get(client: Client, config: Config, name: str) -> Schedule:
    """One schedule. Raises OperationError: "not_found"."""
    _check_name(config, name)
    return _schedule(name, config.schedules[name], client.hgetall(keys.schedule(name)))


def run_now(client: Client, config: Config, name: str, *, actor: str) -> Schedule:
    """Ask for a run now, in addition to the due times. A host begins the run within seconds.

    Raises:
        OperationError: "not_found"; "conflict" if the schedule is disabled, or runs already.
    """
    found = get(client, config, name)
    if not found.enabled:
        raise OperationError(f"the schedule `{name}` is disabled in the configuration", "conflict")
    if found.state.run:
        raise OperationError(f"the schedule `{name}` runs already", "conflict")
    wishes.ask(client, keys.schedule(name), {"wanted": int(time.time() * 1000)})
    audit.record(client, actor, "run_schedule", {"schedule": name}, 1)
    return get(client, config, name)


def pause(client: Client, config: Config, name: str, *, actor: str) -> Schedule:
    """Skip the due times of a schedule until it is resumed. A run that has begun goes on.

    Raises:
        OperationError: "not_found".
    """
    _check_name(config, name)
    if wishes.ask(client, keys.schedule(name), {"paused": int(time.time() * 1000)}):
        audit.record(client, actor, "pause_schedule", {"schedule": name}, 1)
    return get(client, config, name)


def resume(client: Client, config: Config, name: str, *, actor: str) -> Schedule:
    """Let a schedule fire again, from its next due time. Raises OperationError: "not_found"."""
    _check_name(config, name)
    if client.hdel(keys.schedule(name), "paused"):
        audit.record(client, actor, "resume_schedule", {"schedule": name}, 1)
    return get(client, config, name)


def as_data(one: Schedule) -> dict[str, Any]:
    """A schedule as data for the output of commands and the API."""
    found = asdict(one)
    state: Mapping[str, Any] = found.pop("state")
    return {**found, **state}


def _schedule(name: str, one: ScheduleConfig, found: Mapping[bytes, bytes]) -> Schedule:
    state = schedules.load(found, one.definition)
    fires = one.enabled and not state.paused
    return Schedule(
        name=name,
        cron=one.cron,
        timezone=one.timezone,
        enabled=one.enabled,
        action=one.action,
        does=_in_words(one),
        next_at=one.next_ms(time.time() * 1000) / 1000 if fires else 0.0,
        state=state,
    )


def _in_words(one: ScheduleConfig) -> str:
    if one.push is not None:
        count = len(one.push.payloads)
        return f"pushes {count} {'payload' if count == 1 else 'payloads'} on {one.push.list}"
    if one.find is not None:
        return f"pushes what {one.find.storage} finds on {one.find.list}"
    letters = one.requeue or one.purge
    fields = letters.model_dump(exclude_defaults=True) if letters is not None else {}
    which = ", ".join(f"{key} {_plain(value)}" for key, value in fields.items()) or "all"
    return f"{'requeues' if one.requeue is not None else 'purges'} dead letters: {which}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _check_name(config: Config, name: str) -> None:
    if name not in config.schedules:
        hint = suggest(name, config.schedules)
        text = f"there is no schedule `{name[:80]}` in the configuration"
        raise OperationError(text + (f" ({hint})" if hint else ""), "not_found")
