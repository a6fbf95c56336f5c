"""/v1/egress: a consumer reads uuids from an egress list, and acknowledges them afterwards.

A consumer that dies in between reads the same uuids again. Each list should have one consumer:
several consumers would all read the same uuids.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from conserver.config.validation import suggest
from conserver.http.api.auth import check_list, requires
from conserver.http.api.context import Context, context_of
from conserver.http.api.hiding import as_is
from conserver.http.api.problems import ProblemError
from conserver.operations import lists
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/egress", tags=["lists"])

LIMIT_MAX = 1000
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "No chain pushes to a list of this name"},
    409: {"description": "A chain takes from it"},
}


class Waiting(BaseModel):
    """The first uuids of an egress list; they stay there."""

    uuids: list[str]


class Acknowledgement(BaseModel):
    """The uuids to remove from the list."""

    uuids: list[str] = Field(max_length=LIMIT_MAX)


class Acknowledged(BaseModel):
    """How many of the uuids were still on the list."""

    acknowledged: int


@router.get("/{name}", summary="Read what has come out", responses=_UNKNOWN)
def peek(
    request: Request,
    name: str,
    token: Annotated[Token, Depends(requires("read"))],
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 100,
) -> Waiting:
    """The oldest uuids first. They stay on the list until they are acknowledged."""
    context = context_of(request)
    _check(context, token, name)
    as_is(request)
    with context.client() as client:
        return Waiting(uuids=lists.peek(client, name, limit))


@router.post("/{name}/acknowledge", summary="Take off what was worked on", responses=_UNKNOWN)
def acknowledge(
    request: Request,
    name: str,
    done: Acknowledgement,
    token: Annotated[Token, Depends(requires("operate"))],
) -> Acknowledged:
    """Removes the oldest copy of each uuid. A repeated request removes a second copy, if any."""
    context = context_of(request)
    _check(context, token, name)
    with context.client() as client:
        return Acknowledged(acknowledged=lists.acknowledge(client, name, done.uuids))


def _check(context: Context, token: Token, name: str) -> None:
    check_list(token, name)
    if name in context.config.ingress:
        raise ProblemError(409, f"a chain takes from the list `{name}`", "list-served")
    if name not in context.config.egress:
        hint = suggest(name, context.config.egress)
        text = f"no chain pushes to a list `{name}`" + (f" ({hint})" if hint else "")
        raise ProblemError(404, text, "list-unknown")
