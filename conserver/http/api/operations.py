"""/v1/operations: requeue, purge or cancel all items that a filter selects, in the background.

waiting.py starts the operations on waiting items (retry, empty).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from conserver.http.api.auth import check_unrestricted, requires
from conserver.http.api.context import context_of
from conserver.http.api.dead_letters import FilterView
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import iso
from conserver.operations import background
from conserver.operations.background import Operation, Order
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1/operations", tags=["operations"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "It is not known (any more)"}}
BEGUN: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"schema": {"type": "string"}}}},
    404: {"description": "The list is not known"},
    503: {"description": "Too many run here already, or Redis is away"},
}
"""The answers of routes that start an operation."""


class NewOperation(BaseModel):
    """An operation to start. The filter selects dead letters; a cancel needs `uuids`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "kind": "requeue",
                "filter": {"lists": ["calls"], "where": "transcribe"},
                "dry_run": True,
            }
        },
    )

    kind: Literal["requeue", "purge", "cancel"]
    filter: FilterView = Field(default_factory=FilterView.model_construct)
    everything: bool = Field(False, description="Must be true if the filter is empty.")
    dry_run: bool = Field(False, description="Only count.")
    limit: int = Field(0, ge=0, le=1_000_000_000, description="The most items; 0: all.")


class OperationView(BaseModel):
    """One operation. status: running, done, stopped, failed, interrupted."""

    id: str
    kind: str
    filter: dict[str, Any]
    dry_run: bool
    limit: int
    by: str
    status: str
    done: int
    matching: int
    total: int = Field(description="The most items that can match.")
    left_out: dict[str, int] = Field(
        description="Items that a retry or an emptying leaves alone, by cause: `rate`, `throttled`,"
        " `later` (submitted for later), or `age` (unknown)."
    )
    error: str
    created_at: str
    updated_at: str


@router.post(
    "",
    status_code=202,
    summary="Begin an operation",
    response_model=OperationView,
    responses=BEGUN,
)
def begin(
    request: Request,
    wanted: NewOperation,
    token: Annotated[Token, Depends(requires("operate"))],
) -> Response:
    """Starts an operation. `Location` shows its progress; Redis keeps it for a day."""
    context = context_of(request)
    with context.client() as client:
        meant = wanted.filter.load(context, client, token)
    if not meant.restricts and not wanted.everything:
        raise ProblemError(422, "an empty filter means all: say `everything`", "everything")
    if wanted.kind == "cancel":
        check_unrestricted(token, "cancels jobs, not vCons")
    return begun(request, Order(wanted.kind, meant, token.name, wanted.dry_run, wanted.limit))


def begun(request: Request, order: Order) -> Response:
    """Start an operation. The answer's Location shows its progress.

    Raises:
        OperationError: see Operations.begin.
    """
    view = _view(context_of(request).operations.begin(order))
    base = request.scope.get("root_path", "")
    headers = {"Location": f"{base}/v1/operations/{view.id}"}
    return Response(view.model_dump_json(), 202, headers, "application/json")


@router.get("", summary="List operations, newest first")
def show_all(
    request: Request,
    token: Annotated[Token, Depends(requires("read"))],
    limit: Annotated[int, Query(ge=1, le=background.KEEP)] = 100,
) -> list[OperationView]:
    """The latest operations."""
    with context_of(request).client() as client:
        found = background.newest(client, limit)
    return [_view(one) for one in found if _may_see(token, one)]


@router.get("/{operation}", summary="How far an operation is", responses=_UNKNOWN)
def show(
    request: Request, operation: str, token: Annotated[Token, Depends(requires("read"))]
) -> OperationView:
    """Any replica can show it."""
    with context_of(request).client() as client:
        return _view(_seen(background.get(client, operation), token))


@router.delete(
    "/{operation}",
    status_code=202,
    summary="Stop an operation",
    responses={**_UNKNOWN, 409: {"description": "It does not run"}},
)
def stop(
    request: Request, operation: str, token: Annotated[Token, Depends(requires("operate"))]
) -> OperationView:
    """Stops a running operation. What it has changed stays changed."""
    with context_of(request).client() as client:
        _seen(background.get(client, operation), token)
        return _view(background.stop(client, operation, actor=token.name))


def _may_see(token: Token, operation: Operation) -> bool:
    names = operation.filter.get("names") or ()
    return not token.lists or (bool(names) and all(token.may_use(name) for name in names))


def _seen(operation: Operation, token: Token) -> Operation:
    if not _may_see(token, operation):
        raise ProblemError(404, f"there is no operation `{operation.id}` (any more)", "not-found")
    return operation


def _view(operation: Operation) -> OperationView:
    told = dict(operation.filter)
    if "names" in told:
        told["lists"] = told.pop("names")
    return OperationView(
        id=operation.id,
        kind=operation.kind,
        filter=told,
        dry_run=operation.dry_run,
        limit=operation.limit,
        by=operation.by,
        status=operation.status,
        done=operation.done,
        matching=operation.matching,
        total=operation.total,
        left_out=dict(operation.left_out),
        error=operation.error,
        created_at=iso(operation.created_at),
        updated_at=iso(operation.updated_at),
    )
