"""/version and /config of vcon-server. Its /health is in ../health.py."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

from fastapi import Depends, Request, Response

from conserver.errors import ConfigError
from conserver.http.api import bodies
from conserver.http.api.context import Context, context_of
from conserver.http.api.vcon_server import access, route
from conserver.http.api.vcon_server.route import FAILURES, refusal
from conserver.operations import config_file, reload
from conserver.operations.tokens import Token

router = route.router()


@router.get("/version")
async def version(request: Request) -> dict[str, str]:
    """The version; needs no token."""
    return route.version_of(context_of(request).settings)


@router.get("/config")
def show(
    request: Request, token: Annotated[Token, Depends(access.allows("read"))]
) -> dict[str, Any]:
    """The configuration file as it is written, with `***` for secrets."""
    try:
        return config_file.shown(context_of(request).settings.config_file)
    except ConfigError:
        raise refusal(500, FAILURES["GET /config"]) from None


@router.post("/config", status_code=204)
async def replace(
    request: Request, token: Annotated[Token, Depends(access.allows("admin"))]
) -> Response:
    """Replaces the configuration file, if CONSERVER_API_CONFIG_WRITES is true and the new file
    passes the checks of `conserver check`.
    """
    context = context_of(request)
    if not context.settings.api_config_writes:
        text = (
            "the configuration is not written over HTTP, because its modules are code that runs:"
            " change the file, or set CONSERVER_API_CONFIG_WRITES"
        )
        raise refusal(405, text, {"Allow": "GET"})
    data = await bodies.json_object(request)
    await asyncio.to_thread(_replace, context, data, token.name)
    return Response(status_code=204)


def _replace(context: Context, data: dict[str, Any], actor: str) -> None:
    with context.client() as client:
        config_file.replace(client, context.settings, os.environ, data, actor=actor)
        if context.host:
            reload.ask(client, actor=actor, host=context.host)
