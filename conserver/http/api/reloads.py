"""/v1/reload: lets all hosts reload their configuration; /v1/reloads: the result on each host."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from conserver.http.api.auth import requires
from conserver.http.api.context import context_of
from conserver.http.api.shapes import iso_or_none
from conserver.operations import reload as operation
from conserver.operations.reload import Answer
from conserver.operations.tokens import Token

router = APIRouter(prefix="/v1", tags=["status"])


class HostAnswer(BaseModel):
    """The result of a reload on one host."""

    id: str
    name: str
    status: str = Field(description="asked (no answer yet), reloaded, refused or silent.")
    at: str | None = Field(description="When it answered.")
    reason: str = Field(description="Why it refused; it keeps its old configuration.")


class Reload(BaseModel):
    """One request to reload."""

    request: str = Field(description="The id of the reload, for /v1/reloads.")
    hosts: list[HostAnswer]


@router.post(
    "/reload",
    status_code=202,
    summary="Let all hosts read their configuration again",
    response_model=Reload,
    responses={
        202: {"headers": {"Location": {"schema": {"type": "string"}}}},
        409: {"description": "No host is running"},
    },
)
def reload(request: Request, token: Annotated[Token, Depends(requires("admin"))]) -> Response:
    """Has the effect of a SIGHUP to each supervisor. A host refuses a configuration that it cannot
    use. The address in `Location` shows the results, usually within two seconds.
    """
    with context_of(request).client() as client:
        made = operation.ask(client, actor=token.name)
        view = _view(made, operation.answers(client, made))
    base = request.scope.get("root_path", "")
    headers = {"Location": f"{base}/v1/reloads/{made}"}
    return Response(view.model_dump_json(), 202, headers, "application/json")


@router.get("/reloads/{name}", summary="What came of a reload")
def show(request: Request, name: str, _: Annotated[Token, Depends(requires("admin"))]) -> Reload:
    """Shows the result on every host that was running at the time of the request."""
    with context_of(request).client() as client:
        return _view(name, operation.answers(client, name))


def _view(made: str, found: list[Answer]) -> Reload:
    hosts = [
        HostAnswer(
            id=one.id,
            name=one.name,
            status=one.status,
            at=iso_or_none(one.at),
            reason=one.reason,
        )
        for one in found
    ]
    return Reload(request=made, hosts=hosts)
