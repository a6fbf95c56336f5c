"""/v1/lists: how many items each list has, and whether a host serves it; pause and resume."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api import submitting
from conserver.http.api.auth import requires
from conserver.http.api.context import Context, context_of
from conserver.http.api.shapes import iso_or_none
from conserver.operations import lists, overview
from conserver.operations.connection import Client
from conserver.operations.hosts import Throughput
from conserver.operations.overview import ListState
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/lists", tags=["lists"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "The list is not known"}}


class ListView(BaseModel):
    """One list: how many items are in each place. Null: a Redis key has the wrong type."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "calls",
                "queued": 12,
                "returned": 0,
                "suspects": 0,
                "parked": 3,
                "dead": 1,
                "oldest_age_s": 4.2,
                "paused": False,
                "paused_since": None,
                "paused_by": "",
                "served": True,
                "waits": {
                    "sampled": 3,
                    "storages": {"s3": 2},
                    "retries": 1,
                    "rates": {},
                    "throttled": {},
                    "later": 0,
                    "failed": 1,
                    "error": "the CRM answered 500",
                    "due_in_s": 12.5,
                },
            }
        }
    )

    name: str
    queued: int | None = Field(description="Items pushed by producers.")
    returned: int | None = Field(description="Items that came back after a claim.")
    suspects: int | None = Field(description="Items that may have killed a worker; run alone.")
    parked: int | None = Field(description="Items that wait for a time or a storage.")
    dead: int | None = Field(description="Dead letters.")
    oldest_age_s: float | None = Field(
        description="How long the oldest item has waited for a worker, at least; 0: none waits."
    )
    paused: bool
    paused_since: str | None = Field(description="Null: not paused, or not known.")
    paused_by: str = Field(description="Who paused it; empty: nobody, or not known.")
    served: bool = Field(description="Whether a running host takes items from it.")
    waits: dict[str, Any] | None = Field(description="What the parked items wait for.")


class Backlog(BaseModel):
    """The items for which a list needs workers, for autoscalers (KEDA's metrics-api)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "value": 15,
                "queued": 12,
                "returned": 0,
                "suspects": 0,
                "due": 1,
                "in_flight": 2,
            }
        }
    )

    value: int = Field(description="The sum of the following; 0: no worker is needed.")
    queued: int = Field(description="Items pushed by producers.")
    returned: int = Field(description="Items that came back after a claim.")
    suspects: int = Field(description="Items that may have killed a worker; run alone.")
    due: int = Field(description="Parked items that are due; a running host has to move them.")
    in_flight: int = Field(description="Held by workers.")


def view(state: ListState) -> ListView:
    """A list as the API shows it."""
    waits = state.waits
    told = None
    if waits is not None:
        told = {
            "sampled": waits.sampled,
            "storages": waits.storages,
            "retries": waits.retries,
            "rates": waits.rates,
            "throttled": waits.throttled,
            "later": waits.later,
            "failed": waits.failed,
            "error": waits.error,
            "due_in_s": waits.due_in_s,
        }
    return ListView(
        name=state.name,
        queued=state.queued,
        returned=state.returned,
        suspects=state.suspects,
        parked=state.parked,
        dead=state.dead,
        oldest_age_s=state.oldest_age_s,
        paused=state.paused,
        paused_since=iso_or_none(state.paused_since),
        paused_by=state.paused_by,
        served=state.served,
        waits=told,
    )


def states(context: Context, client: Client, token: Token) -> list[ListView]:
    """Every list that the token may use."""
    found = overview.overview(client, list(context.config.ingress), Throughput())
    return [view(state) for state in found.lists if token.may_use(state.name)]


@router.get("", summary="All lists")
def show_all(
    request: Request, token: Annotated[Token, Depends(requires("read"))]
) -> list[ListView]:
    """The lists of the configuration, and all lists that workers have ever claimed from."""
    context = context_of(request)
    with context.client() as client:
        return states(context, client, token)


@router.get("/{name}", summary="One list", responses=_UNKNOWN)
def show(
    request: Request, name: str, token: Annotated[Token, Depends(requires("read"))]
) -> ListView:
    """How many items the list has, and what parked items wait for."""
    context = context_of(request)
    with context.client() as client:
        submitting.served_list(context, client, token, name)
        return _one(context, client, name)


def _one(context: Context, client: Client, name: str) -> ListView:
    found = overview.overview(client, [*context.config.ingress, name], Throughput())
    return next((view(state) for state in found.lists if state.name == name), _empty(name))


@router.get("/{name}/backlog", summary="One number for an autoscaler", responses=_UNKNOWN)
def backlog(
    request: Request, name: str, token: Annotated[Token, Depends(requires("read"))]
) -> Backlog:
    """Counts the items that wait for a worker and the items that workers hold, because a busy
    worker is needed as well. Parked items count once they are due.
    """
    context = context_of(request)
    with context.client() as client:
        submitting.served_list(context, client, token, name)
        found = lists.backlog(client, name)
    return Backlog(value=found.total, **asdict(found))


@router.post("/{name}/pause", summary="Stop taking from a list", responses=_UNKNOWN)
def pause(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ListView:
    """Workers claim nothing from a paused list. Producers may still push, and running items go on
    to their end.
    """
    context = context_of(request)
    with context.client() as client:
        submitting.served_list(context, client, token, name)
        context.pause(name, token.name)
        return _one(context, client, name)


@router.post("/{name}/resume", summary="Take from a list again", responses=_UNKNOWN)
def resume(
    request: Request, name: str, token: Annotated[Token, Depends(requires("operate"))]
) -> ListView:
    """Has no effect on a list that is not paused. A list that was removed from the configuration
    while paused can be resumed, too.
    """
    context = context_of(request)
    with context.client() as client:
        submitting.served_list(context, client, token, name)
        context.resume(name, token.name)
        return _one(context, client, name)


def _empty(name: str) -> ListView:
    """The view of the list of notifications while it is empty: an overview leaves it out."""
    return ListView(
        name=name,
        queued=0,
        returned=0,
        suspects=0,
        parked=0,
        dead=0,
        oldest_age_s=0.0,
        paused=False,
        paused_since=None,
        paused_by="",
        served=False,
        waits=None,
    )
