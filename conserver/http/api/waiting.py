"""/v1/lists/{name}/retry and /empty: try parked items now, or remove waiting items."""

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
    """Selects items of the list: those that match every field that is given."""

    model_config = ConfigDict(extra="forbid")

    uuids: list[str] = Field([], max_length=10_000, description="Of these vCons.")
    storage: str = Field("", max_length=1000, description="Still to be stored in this storage.")
    error: str = Field("", max_length=1000, description="Text in the latest error; case ignored.")
    older: str = Field(
        "",
        description="First claimed, or submitted as a job, longer ago: 90s, 15m, 2h, 7d, 1w."
        " Items of unknown age do not match.",
    )
    dry_run: bool = Field(False, description="Only count.")
    limit: int = Field(0, ge=0, le=1_000_000_000, description="The most items; 0: all.")


class NewRetry(_Waiting):
    """Selects the parked items to try now."""

    model_config = ConfigDict(json_schema_extra={"example": {"storage": "s3", "dry_run": True}})

    causes: list[Literal["retry", "storage", "later"]] = Field(
        [],
        max_length=3,
        description="What they wait for; by default retry and storage. `later`: items that were"
        " submitted for a later time.",
    )


class NewEmptying(_Waiting):
    """Selects the waiting items to remove for good."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"places": ["queued"], "older": "2h", "dry_run": True}}
    )

    causes: list[Literal["retry", "storage", "rate", "throttled", "later"]] = Field(
        [], max_length=5, description="Only parked items that wait for this."
    )
    places: list[Literal["queued", "returned", "suspects", "parked"]] = Field(
        [], max_length=4, description="Only in these places."
    )
    everything: bool = Field(False, description="Must be true if the filter is empty.")


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
    """Starts an operation; `Location` shows its progress. The items keep their count of attempts.
    Items that wait for a rate, or for a server that has throttled calls, are left alone;
    `left_out` counts them.
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
    """Starts an operation; `Location` shows its progress. The jobs of removed items end as
    cancelled. Running items go on, and dead letters stay.
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
    """The filter. Raises ProblemError: 403 or 404 for the list. OperationError: "invalid"."""
    context = context_of(request)
    with context.client() as client:
        submitting.served_list(context, client, token, name)
    return WaitingFilter(
        names=(name,),
        uuids=tuple(wanted.uuids),
        places=places,
        causes=causes,
        storage=wanted.storage,
        error=re.escape(wanted.error),  # No pattern of a client's, which might never end.
        older_s=parse_age(wanted.older) if wanted.older else None,
    )
