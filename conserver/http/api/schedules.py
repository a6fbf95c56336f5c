"""/v1/schedules: what happens at fixed times; run one now, pause it, resume it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api.auth import check_unrestricted, requires
from conserver.http.api.context import context_of
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
    """One schedule. Times are seconds since 1970; 0 for none."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "nightly",
                "cron": "0 2 * * *",
                "timezone": "Europe/Berlin",
                "enabled": True,
                "action": "push",
                "does": "pushes 1 payload on reports",
                "next_at": 1790128800.0,
                "fired_at": 1790042400.0,
                "paused": False,
                "run": "",
                "host": "",
                "trouble": "",
                "wanted": False,
                "passed": "",
                "passed_at": 0.0,
                "last_at": 1790042400.2,
                "last_time": 1790042400.0,
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
    next_at: float
    fired_at: float
    paused: bool
    run: str = Field(description='The run that is at work; "" for none.')
    host: str = Field(description="The host that does it.")
    trouble: str = Field(description="What the run waits for.")
    wanted: bool = Field(description="Somebody asked for a run, which has not begun.")
    passed: str = Field(description="Why a time was passed over last: busy, paused, missed.")
    passed_at: float
    last_at: float = Field(description="When the last run ended.")
    last_time: float = Field(description="The time that the last run was for.")
    last_result: dict[str, Any] | None


def _view(one: Schedule) -> ScheduleView:
    return ScheduleView(**schedules.as_data(one))


def _unrestricted(token: Token) -> str:
    """The token's name. Raises ProblemError: a schedule may work on any list."""
    check_unrestricted(token, "may not use schedules")
    return token.name


@router.get("", summary="List schedules")
def show_all(
    request: Request, token: Annotated[Token, Depends(requires("read"))]
) -> list[ScheduleView]:
    """Those of the configuration, in its order."""
    _unrestricted(token)
    context = context_of(request)
    with context.client() as client:
        return [_view(one) for one in schedules.read(client, context.config)]


@router.get("/{name}", summary="Show a schedule", responses=_UNKNOWN)
def show(
    request: Request, name: str, token: Annotated[Token, Depends(requires("read"))]
) -> ScheduleView:
    """When it fires next, what it does now, and how its last run ended."""
    _unrestricted(token)
    context = context_of(request)
    with context.client() as client:
        return _view(schedules.get(client, context.config, name))


@router.post("/{name}/run", summary="Run a schedule now", responses=_RUNS)
def run(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ScheduleView:
    """Besides its times, also where it is paused. A host begins the run within seconds."""
    return _change(schedules.run_now, request, name, token)


@router.post("/{name}/pause", summary="Pause a schedule", responses=_UNKNOWN)
def pause(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ScheduleView:
    """Its times pass without effect. A run that has begun goes on."""
    return _change(schedules.pause, request, name, token)


@router.post("/{name}/resume", summary="Resume a schedule", responses=_UNKNOWN)
def resume(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ScheduleView:
    """It fires again from its next time on."""
    return _change(schedules.resume, request, name, token)


def _change(
    change: Callable[..., Schedule], request: Request, name: str, token: Token
) -> ScheduleView:
    """The schedule after run_now, pause or resume."""
    by, context = _unrestricted(token), context_of(request)
    with context.client() as client:
        return _view(change(client, context.config, name, actor=by))
