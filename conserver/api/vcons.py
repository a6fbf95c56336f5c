"""/v1/vcons: documents by their uuid, kept byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from conserver.api import bodies, queue, submitting
from conserver.api.auth import requires
from conserver.api.context import Context, context_of
from conserver.api.problems import ProblemError
from conserver.api.shapes import JobView, job_view
from conserver.api.submitting import Wish
from conserver.operations import documents
from conserver.operations.tokens import Token
from conserver.queue import keys
from conserver.vcon.ids import usable_uuid

router = APIRouter(prefix="/v1/vcons", tags=["vcons"])

PARSE_INLINE_BYTES = 256 * 1024
"""A larger document is parsed in a thread, so that others are served meanwhile."""


class Stored(BaseModel):
    """A document that is stored."""

    uuid: str


_DOCUMENT = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


async def _document(request: Request, context: Context) -> tuple[str, bytes]:
    raw = await bodies.whole(request, context.settings.max_document_bytes)
    if len(raw) > PARSE_INLINE_BYTES:
        return await asyncio.to_thread(submitting.uuid_of, context, raw), raw
    return submitting.uuid_of(context, raw), raw


@router.post(
    "",
    status_code=201,
    summary="Store a vCon, and queue it",
    response_model=Stored,
    responses={
        202: {"model": JobView, "description": "Queued: with `list`"},
        413: {"description": "Too large"},
        422: {"description": "No vCon"},
        503: {"description": "The list is full, or Redis is"},
    },
    openapi_extra=_DOCUMENT,
)
async def post(
    request: Request,
    token: Annotated[Token, Depends(requires("submit"))],
    name: Annotated[str, Query(alias="list", description="Queue it on this list")] = "",
    job: Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = "",
    not_before: Annotated[datetime | None, Query(description="With a time zone")] = None,
) -> Response:
    """The body is the document, and is kept as it is. With `list` a job is made of it."""
    context = context_of(request)
    if name:
        submitting.known_list(context, token, name)
    uuid, raw = await _document(request, context)
    if not name:
        await context.redis.set(
            keys.document(uuid), raw, ex=context.settings.orphan_expiry_s or None
        )
        return Response(Stored(uuid=uuid).model_dump_json(), 201, {}, "application/json")
    due_ms = 0
    if not_before is not None:
        if not_before.tzinfo is None:
            raise ProblemError(422, "not_before: needs a time zone", "invalid")
        due_ms = int(not_before.astimezone(UTC).timestamp() * 1000)
    made, _ = await submitting.submit(context, token, Wish(name, uuid, raw, job, due_ms))
    found = await queue.job_of(context.redis, made)
    if found is None:
        raise ProblemError(404, f"there is no job `{made}` any more", "job-unknown")
    view = job_view(found, request.scope.get("root_path", ""))
    return Response(view.model_dump_json(), 202, {"Location": view.links.self}, "application/json")


@router.put(
    "/{uuid}",
    status_code=201,
    summary="Store a vCon under its uuid",
    response_model=Stored,
    responses={
        200: {"model": Stored, "description": "It replaced another one"},
        412: {"description": "If-Match or If-None-Match does not hold"},
        422: {"description": "No vCon, or that of another uuid"},
    },
    openapi_extra=_DOCUMENT,
)
async def put(
    request: Request, uuid: str, token: Annotated[Token, Depends(requires("submit"))]
) -> Response:
    """`If-None-Match: *` stores it only if there is none, `If-Match: ETAG` only over that one."""
    context = context_of(request)
    found, raw = await _document(request, context)
    if found.lower() != uuid.lower():
        raise ProblemError(422, f"the document is that of another vCon: {found}", "other-uuid")
    before = await _current(context, uuid)
    _check_conditions(request, before)
    redis: Any = context.redis
    await redis.set(keys.document(found), raw, ex=context.settings.orphan_expiry_s or None)
    status = 201 if before is None else 200
    headers = {"ETag": tag_of(raw)}
    return Response(Stored(uuid=found).model_dump_json(), status, headers, "application/json")


async def _current(context: Context, uuid: str) -> bytes | None:
    """What Redis holds; None for nothing."""
    return await asyncio.to_thread(_read, context, uuid)


def _read(context: Context, uuid: str) -> bytes | None:
    with context.client() as client:
        return documents.read(client, uuid).text


def _check_conditions(request: Request, before: bytes | None) -> None:
    wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
    tag = None if before is None else tag_of(before)
    if wanted is not None and wanted not in (tag, "*" if tag else None):
        raise ProblemError(412, "the document is not the one that If-Match names", "changed")
    if unwanted is not None and tag is not None and unwanted in ("*", tag):
        raise ProblemError(412, "there is a document of this uuid already", "exists")


def tag_of(raw: bytes) -> str:
    """The ETag of a document: it says what its bytes are, wherever they are kept."""
    return f'"{hashlib.sha256(raw).hexdigest()[:32]}"'


@router.get(
    "/{uuid}",
    summary="A vCon",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {}}},
        304: {"description": "It is still that of If-None-Match"},
        404: {"description": "Neither Redis nor a storage has it"},
        502: {"description": "A storage that may have it could not be asked"},
    },
)
@router.head("/{uuid}", include_in_schema=False)
def get(
    request: Request, uuid: str, token: Annotated[Token, Depends(requires("read"))]
) -> Response:
    """From Redis, else from the storages in their order; the bytes as they are there."""
    context = context_of(request)
    if not usable_uuid(uuid):
        raise ProblemError(404, "that cannot be the uuid of a vCon", "vcon-unknown")
    with context.client() as client:
        found = documents.get(client, context.storages, uuid)
    if found.text is None:
        if found.silent:
            raise ProblemError(
                502,
                "these storages could not be asked: " + ", ".join(sorted(found.silent)),
                "storage-away",
            )
        raise ProblemError(404, f"there is no vCon {uuid}", "vcon-unknown")
    tag = tag_of(found.text)
    headers = {"ETag": tag, "X-Source": found.source, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(len(found.text))
    body = b"" if request.method == "HEAD" else found.text
    return Response(body, 200, headers, "application/json")
