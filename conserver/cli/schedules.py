"""`conserver schedules`: lists schedules, runs one now, pauses and resumes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from conserver.cli.arguments import AsJson, ConfigFile, examples, typer_app
from conserver.cli.environment import actor, load_config, load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.cli.tables import Marked
from conserver.operations import schedules
from conserver.operations.schedules import Schedule

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]

app = typer_app("Schedules: list, run, pause, resume.")


@app.command("list")
def list_(config: ConfigFile = "", json: AsJson = False) -> int:
    """List schedules: action, next time, and how the last run ended."""
    output = Output(as_json=json)
    settings = load_settings(config)
    configured = load_config(settings)
    with redis_client(settings) as client:
        found = schedules.read(client, configured)
    output.value([schedules.as_data(one) for one in found])
    rows = [(one.name, _next(one), one.cron, one.timezone, _last(one), one.does) for one in found]
    output.table(
        ("schedule", "next", "cron", "time zone", "last run", "does"), rows, none="no schedules"
    )
    return 0


@app.command(epilog=examples("schedules run nightly"))
def run(name: ScheduleName, config: ConfigFile = "", json: AsJson = False) -> int:
    """Run a schedule now, between its times. It may be paused."""
    _change(Output(as_json=json), schedules.run_now, name, config)
    note(f"{name} runs as soon as a host has seen it: within seconds where one lives")
    return 0


@app.command()
def pause(name: ScheduleName, config: ConfigFile = "", json: AsJson = False) -> int:
    """Pause a schedule: its times pass without a run. A begun run goes on."""
    output = Output(as_json=json)
    _change(output, schedules.pause, name, config)
    output.line(f"{name} is paused")
    return 0


@app.command()
def resume(name: ScheduleName, config: ConfigFile = "", json: AsJson = False) -> int:
    """Let a schedule fire again, from its next time on."""
    output = Output(as_json=json)
    found = _change(output, schedules.resume, name, config)
    output.line(f"{name} fires next at {_next(found)}")
    return 0


def _change(
    output: Output, operation: Callable[..., Schedule], name: str, config_file: str
) -> Schedule:
    """Calls the operation on a schedule, prints with --json what it is now, and returns it."""
    settings = load_settings(config_file)
    config = load_config(settings)
    with redis_client(settings) as client:
        found = operation(client, config, name, actor=actor())
    output.value(schedules.as_data(found))
    return found


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
