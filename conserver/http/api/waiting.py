"""/v1/lists/{name}/retry and /empty: what becomes of many items of a list that wait."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api import submitting
from conserver.http.api.auth import requires
from conserver.http.api.context import context_of
from conserver.http.api.operations import BEGUN, OperationView, begun
from conserver.http.api.problems import ProblemError
from conserver.operations.background import Order
from conserver.operations.dead_letters import parse_age
from conserver.operations.tokens import Token
from conserver.operations.waiting import WaitingFilter

router = APIRouter(prefix="/v1/lists", tags=["lists"])


class _Waiting(BaseModel):
    """Which items of the list are meant. What is not given leaves none out."""

    model_config = ConfigDict(extra="forbid")

    uuids: list[str] = Field([], max_length=10_000, description="Of these vCons.")
    storage: str = Field("", max_length=1000, description="Owed to this storage.")
    error: str = Field("", max_length=1000, description="Text in the latest error, in any case.")
    older: str = Field(
        "",
        description="Claimed first, or submitted as a job, longer ago: 90s, 15m, 2h, 7d, 1w."
        " It matches none of which nobody knows that.",
    )
    dry_run: bool = Field(False, description="Only count.")
    limit: int = Field(0, ge=0, le=1_000_000_000, description="At most so many; 0: all.")


class NewRetry(_Waiting):
    """Which parked items are to be tried now."""

    model_config = ConfigDict(json_schema_extra={"example": {"storage": "s3", "dry_run": True}})

    causes: list[Literal["retry", "storage", "later"]] = Field(
        [],
        max_length=3,
        description="What they wait for; if none is given: retry and storage. `later` are those"
        " that were submitted for a later time.",
    )


class NewEmptying(_Waiting):
    """Which items that wait are to be taken out, for good."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"places": ["queued"], "older": "2h", "dry_run": True}}
    )

    causes: list[Literal["retry", "storage", "rate", "throttled", "later"]] = Field(
        [], max_length=5, description="Parked ones that wait for this."
    )
    places: list[Literal["queued", "returned", "suspects", "parked"]] = Field(
        [], max_length=4, description="In these places."
    )
    everything: bool = Field(False, description="Must be true where the filter is empty.")


@router.post(
    "/{name}/retry",
    status_code=202,
    summary="Try parked items now",
    response_model=OperationView,
    responses=BEGUN,
)
def retry(
    request: Request,
    name: str,
    wanted: NewRetry,
    token: Annotated[Token, Depends(requires("operate"))],
) -> Response:
    """An operation, followed under `Location`. Attempts count on. What waits for a rate, or until
    its server takes calls again, is not hurried; `left_out` says how many these are.
    """
    meant = _filter(request, name, wanted, token, causes=tuple(wanted.causes))
    return begun(request, Order("retry", meant, token.name, wanted.dry_run, wanted.limit))


@router.post(
    "/{name}/empty",
    status_code=202,
    summary="Take out what waits",
    response_model=OperationView,
    responses=BEGUN,
)
def empty(
    request: Request,
    name: str,
    wanted: NewEmptying,
    token: Annotated[Token, Depends(requires("operate"))],
) -> Response:
    """An operation, followed under `Location`. Jobs end as cancelled. What runs goes on, and dead
    letters stay.
    """
    causes, places = tuple(wanted.causes), tuple(wanted.places)
    meant = _filter(request, name, wanted, token, causes=causes, places=places)
    if not meant.restricts and not wanted.everything:
        raise ProblemError(422, "an empty filter means all: say `everything`", "everything")
    return begun(request, Order("empty", meant, token.name, wanted.dry_run, wanted.limit))


def _filter(
    request: Request,
    name: str,
    wanted: _Waiting,
    token: Token,
    *,
    causes: tuple[str, ...],
    places: tuple[str, ...] = (),
) -> WaitingFilter:
    """Raises ProblemError: 403 or 404 for the list. OperationError: "invalid"."""
    context = context_of(request)
    with context.client() as client:
        submitting.served_list(context, client, token, name)
    return WaitingFilter(
        names=(name,),
        uuids=tuple(wanted.uuids),
        places=places,
        causes=causes,
        storage=wanted.storage,
        error=re.escape(wanted.error),  # Whoever sends it cannot make a pattern run for ever.
        older_s=parse_age(wanted.older) if wanted.older else None,
    )
