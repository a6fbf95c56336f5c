"""/v1/schedules: shows the schedules; runs one now, pauses or resumes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api.auth import check_unrestricted, requires
from conserver.http.api.context import context_of
from conserver.http.api.shapes import iso_or_none, with_iso
from conserver.operations import schedules
from conserver.operations.schedules import Schedule
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no schedule of this name"}
}
_RUNS: dict[int | str, dict[str, Any]] = {
    **_UNKNOWN,
    409: {"description": "It runs already, or is disabled"},
}


class ScheduleView(BaseModel):
    """One schedule. Null: no such time."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "nightly",
                "cron": "0 2 * * *",
                "timezone": "Europe/Berlin",
                "enabled": True,
                "action": "push",
                "does": "pushes 1 payload on reports",
                "next_at": "2026-11-30T01:00:00.000Z",
                "fired_at": "2026-11-29T01:00:00.000Z",
                "paused": False,
                "run": "",
                "host": "",
                "trouble": "",
                "wanted": False,
                "passed": "",
                "passed_at": None,
                "last_at": "2026-11-29T01:00:00.200Z",
                "last_time": "2026-11-29T01:00:00.000Z",
                "last_result": {"done": 1},
            }
        }
    )

    name: str
    cron: str
    timezone: str
    enabled: bool
    action: str
    does: str = Field(description="The action in words.")
    next_at: str | None
    fired_at: str | None
    paused: bool
    run: str = Field(description='The id of the present run; "" for none.')
    host: str = Field(description="The host of the present run.")
    trouble: str = Field(description="What the run waits for.")
    wanted: bool = Field(description="A run was requested and has not begun.")
    passed: str = Field(description="Why the last skipped time was skipped: busy, paused, missed.")
    passed_at: str | None
    last_at: str | None = Field(description="When the last run ended.")
    last_time: str | None = Field(description="The scheduled time of the last run.")
    last_result: dict[str, Any] | None


def _view(one: Schedule) -> ScheduleView:
    told = with_iso(schedules.as_data(one))
    return ScheduleView(**told | {"last_time": iso_or_none(one.state.last_time)})


def _unrestricted(token: Token) -> str:
    """The token's name. Raises ProblemError if the token is restricted to lists, because a schedule
    may work on any list.
    """
    check_unrestricted(token, "may not use schedules")
    return token.name


@router.get("", summary="List schedules")
def show_all(
    request: Request, token: Annotated[Token, Depends(requires("read"))]
) -> list[ScheduleView]:
    """The schedules in the order of the configuration."""
    _unrestricted(token)
    context = context_of(request)
    with context.client() as client:
        return [_view(one) for one in schedules.read(client, context.config)]


@router.get("/{name}", summary="Show a schedule", responses=_UNKNOWN)
def show(
    request: Request, name: str, token: Annotated[Token, Depends(requires("read"))]
) -> ScheduleView:
    """Shows the schedule's next time, its present run, and how the last run ended."""
    _unrestricted(token)
    context = context_of(request)
    with context.client() as client:
        return _view(schedules.get(client, context.config, name))


@router.post("/{name}/run", summary="Run a schedule now", responses=_RUNS)
def run(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ScheduleView:
    """Requests an additional run, also of a paused schedule. A host begins it within seconds."""
    return _change(schedules.run_now, request, name, token)


@router.post("/{name}/pause", summary="Pause a schedule", responses=_UNKNOWN)
def pause(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ScheduleView:
    """A paused schedule skips its times. A run that has begun goes on."""
    return _change(schedules.pause, request, name, token)


@router.post("/{name}/resume", summary="Resume a schedule", responses=_UNKNOWN)
def resume(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ScheduleView:
    """The schedule runs again from its next time on."""
    return _change(schedules.resume, request, name, token)


def _change(
    change: Callable[..., Schedule], request: Request, name: str, token: Token
) -> ScheduleView:
    """The schedule after run_now, pause or resume."""
    by, context = _unrestricted(token), context_of(request)
    with context.client() as client:
        return _view(change(client, context.config, name, actor=by))
