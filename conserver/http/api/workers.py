"""/v1/hosts/{host}/workers/{slot}: the items that one worker holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api.auth import requires
from conserver.http.api.context import context_of
from conserver.http.api.shapes import iso
from conserver.operations import workers
from conserver.operations.tokens import Token
from conserver.operations.workers import Held

router = APIRouter(prefix="/v1/hosts", tags=["status"])


class HeldView(BaseModel):
    """One item that a worker holds."""

    uuid: str
    job: str
    list: str
    phase: str = Field(description="queued, untimed, running or finishing; empty: unknown.")
    link: str = Field(description="The link that runs; empty: none runs, or unknown.")
    since_s: float = Field(description="How long in this phase, as of the host's last heartbeat.")
    claimed_at: str = Field(description="When a worker claimed the item for the first time.")
    attempts: int = Field(description="Failed attempts.")
    deaths: int = Field(description="Deaths of workers that were counted for the item.")
    suspect: bool = Field(description="Whether it may have killed a worker; then it runs alone.")
    links_done: Sequence[str]
    storages_owed: Sequence[str] | None = Field(description="Null until all links are done.")


class WorkerView(BaseModel):
    """A worker and the items that it holds, the earliest claimed first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "host": "abcdef0123456789",
                "name": "box-1",
                "beats": True,
                "slot": 1,
                "pid": 4242,
                "state": "working",
                "items": [
                    {
                        "uuid": "0199e0a4-7c1e-8b3a-9f11-2d3c4b5a6978",
                        "job": "",
                        "list": "calls",
                        "phase": "running",
                        "link": "transcribe",
                        "since_s": 42.0,
                        "claimed_at": "2026-11-29T19:00:00.000Z",
                        "attempts": 0,
                        "deaths": 0,
                        "suspect": False,
                        "links_done": [],
                        "storages_owed": None,
                    }
                ],
            }
        }
    )

    host: str
    name: str
    beats: bool = Field(description="Whether the host lives; if not, `state` is its last one.")
    slot: int
    pid: int
    state: str
    items: list[HeldView]


@router.get(
    "/{host}/workers/{slot}",
    summary="All that a worker holds",
    responses={404: {"description": "There is no such worker"}},
)
def show(
    request: Request,
    host: str,
    slot: Annotated[int, Path(ge=0, le=1_000_000)],
    token: Annotated[Token, Depends(requires("read"))],
) -> WorkerView:
    """`host` is an `id` of `GET /v1/hosts`. A token that is restricted to lists sees only the items
    of these lists.
    """
    with context_of(request).client() as client:
        found = workers.holder(client, host, slot)
    return WorkerView(
        host=found.host,
        name=found.name,
        beats=found.beats,
        slot=found.slot,
        pid=found.pid,
        state=found.state,
        items=[_view(one) for one in found.items if token.may_use(one.list)],
    )


def _view(one: Held) -> HeldView:
    return HeldView(
        uuid=one.uuid,
        job=one.job,
        list=one.list,
        phase=one.phase,
        link=one.link,
        since_s=one.since_s,
        claimed_at=iso(one.claimed_at),
        attempts=one.attempts,
        deaths=one.deaths,
        suspect=one.suspect,
        links_done=list(one.links),
        storages_owed=None if one.owed is None else list(one.owed),
    )
