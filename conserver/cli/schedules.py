"""`conserver schedules`: lists schedules, runs one now, pauses and resumes them."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from conserver.cli.environment import actor, load_config, load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.cli.tables import Marked
from conserver.operations import schedules
from conserver.operations.schedules import Schedule

Action = Literal["run", "pause", "resume"]
_ACTIONS = {"run": schedules.run_now, "pause": schedules.pause, "resume": schedules.resume}


def list_schedules(output: Output, config_file: str) -> int:
    """Lists the schedules of the configuration. Returns 0, also if there are none."""
    settings = load_settings(config_file)
    config = load_config(settings)
    with redis_client(settings) as client:
        found = schedules.read(client, config)
    output.value([schedules.as_data(one) for one in found])
    rows = [(one.name, _next(one), one.cron, one.timezone, _last(one), one.does) for one in found]
    output.table(
        ("schedule", "next", "cron", "time zone", "last run", "does"), rows, none="no schedules"
    )
    return 0


def change(output: Output, config_file: str, name: str, action: Action) -> int:
    """Asks for a run, pauses or resumes. Returns 0; the operation raises if it is not possible."""
    settings = load_settings(config_file)
    config = load_config(settings)
    with redis_client(settings) as client:
        found = _ACTIONS[action](client, config, name, actor=actor())
    output.value(schedules.as_data(found))
    if action == "run":
        note(f"{name} runs as soon as a host has seen it: within seconds where one lives")
    elif action == "pause":
        output.line(f"{name} is paused")
    else:
        output.line(f"{name} fires next at {_next(found)}")
    return 0


def _next(one: Schedule) -> str | Marked:
    if not one.enabled:
        return "disabled"
    if one.state.paused:
        return Marked("paused", "warning")
    moment = datetime.fromtimestamp(one.next_at, tz=ZoneInfo(one.timezone))
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _last(one: Schedule) -> str | Marked:
    state = one.state
    if state.run:
        what = f"runs on {state.host}"
        return Marked(f"{what}: {state.trouble}", "warning") if state.trouble else what
    if state.wanted:
        return "was asked for"
    if state.last_result is None:
        return ""
    ago = f"{age_text(max(time.time() - state.last_at, 0.0))} ago"
    if "error" in state.last_result:
        return Marked(f"{ago}: {state.last_result['error']}", "bad")
    return f"{ago}: {state.last_result.get('done', 0)} done"
