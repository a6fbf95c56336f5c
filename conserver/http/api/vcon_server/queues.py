"""vcon-server's routes for lists: ingress, egress, depths, dead letters."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import Depends, Query, Request, Response

from conserver.http.api import bodies
from conserver.http.api.context import Context, context_of
from conserver.http.api.hiding import as_is
from conserver.http.api.vcon_server import access, documents, route
from conserver.http.api.vcon_server.route import invalid
from conserver.operations import dead_letter_moves, dead_letters, lists, push
from conserver.operations.dead_letters import Filter
from conserver.operations.tokens import Token
from conserver.vcon.ids import usable_uuid

router = route.router()

TAKE_MAX = 10_000
DEAD_MAX = 10_000
REPROCESS_MAX = 100_000


async def visible_list(request: Request, list_name: str) -> str:
    """The name of a list whose depth the caller may see. With CONSERVER_API_PUBLIC_STATS a list of
    the configuration needs no token; any other needs a token with the role read.
    """
    context = context_of(request)
    if context.settings.api_public_stats and access.is_configured(context, list_name):
        return list_name
    return access.any_list(context, access.checked(request, "read"), list_name, "list_name")


@router.get("/stats/queue")
def depth(request: Request, name: Annotated[str, Depends(visible_list)]) -> dict[str, str | int]:
    """How many items wait on a list."""
    with context_of(request).client() as client:
        return {"list_name": name, "depth": lists.depth(client, name)}


@router.post("/vcon/ingress", status_code=204)
async def ingress(
    request: Request,
    token: Annotated[Token, Depends(access.allows("submit"))],
    ingress_list: str,
) -> Response:
    """Pushes uuids of stored documents. X-Conserver-Skipped counts uuids without a document."""
    context = context_of(request)
    access.ingress_list(context, token, ingress_list, "ingress_list")
    uuids = _uuids(await bodies.whole(request, bodies.JSON_BYTES_MAX))
    skipped = await asyncio.to_thread(_push, context, ingress_list, uuids) if uuids else []
    return Response(status_code=204, headers={"X-Conserver-Skipped": str(len(skipped))})


def _push(context: Context, name: str, uuids: list[str]) -> list[str]:
    with context.client() as client:
        settings = context.settings
        return push.push_stored(client, context.storages, name, uuids, settings=settings)


def _uuids(raw: bytes) -> list[str]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(("body",), "json_invalid", f"JSON decode error: {error}") from None
    if not isinstance(found, list):
        raise invalid(("body",), "list_type", "Input should be a valid list")
    for number, one in enumerate(found):
        if not isinstance(one, str) or not usable_uuid(one):
            raise invalid(("body", number), "string_type", "Input should be the uuid of a vCon")
    return found


@router.get("/vcon/egress")
def egress(
    request: Request,
    token: Annotated[Token, Depends(access.allows("operate"))],
    egress_list: str,
    limit: Annotated[int, Query(ge=1, le=TAKE_MAX)] = 1,
) -> list[str]:
    """Takes uuids off an egress list, the oldest first."""
    context = context_of(request)
    access.egress_list(context, token, egress_list, "egress_list")
    as_is(request)
    with context.client() as client:
        return lists.take(client, egress_list, limit)


@router.get("/vcon/count")
def count(
    request: Request,
    token: Annotated[Token, Depends(access.allows("read"))],
    egress_list: str,
) -> int:
    """How many elements a list has, as a bare number."""
    context = context_of(request)
    access.any_list(context, token, egress_list, "egress_list")
    with context.client() as client:
        return lists.depth(client, egress_list)


@router.post("/vcon/external-ingress", status_code=204)
async def external(request: Request, ingress_list: str) -> Response:
    """Stores a partner's document and pushes it onto the list; needs a key of `ingress_auth`."""
    context = context_of(request)
    access.check_partner(request, ingress_list)
    found = await documents.document_in(request, context)
    await asyncio.to_thread(documents.store, context, found, [ingress_list])
    return Response(status_code=204)


@router.get("/dlq")
def dead(
    request: Request,
    response: Response,
    token: Annotated[Token, Depends(access.allows("read"))],
    ingress_list: str,
    limit: Annotated[int, Query(ge=1, le=DEAD_MAX)] = 1000,
    offset: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
) -> list[str]:
    """uuids of dead letters, the oldest first. The header X-Total-Count has the total number."""
    context = context_of(request)
    access.ingress_list(context, token, ingress_list, "ingress_list")
    with context.client() as client:
        found = dead_letters.uuids(client, ingress_list, limit=limit, offset=offset)
        response.headers["X-Total-Count"] = str(lists.depth(client, f"DLQ:{ingress_list}"))
        return found


@router.post("/dlq/reprocess")
def reprocess(
    request: Request,
    token: Annotated[Token, Depends(access.allows("operate"))],
    ingress_list: str,
    count: Annotated[int, Query(ge=1, le=REPROCESS_MAX)] = 1000,
) -> int:
    """Requeues dead letters, which go on after their last checkpoint. Answers with their number."""
    context = context_of(request)
    access.ingress_list(context, token, ingress_list, "ingress_list")
    done, meant = 0, Filter(names=(ingress_list,))
    with context.client() as client:
        for step in dead_letter_moves.requeue(client, meant, limit=count, actor=token.name):
            done = step.done
    return done
