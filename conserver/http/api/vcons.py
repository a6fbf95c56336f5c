"""/v1/vcons: documents by their uuid, kept byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from conserver.http.api import bodies, etags, submitting
from conserver.http.api.auth import requires, token_with
from conserver.http.api.context import Context, context_of
from conserver.http.api.hiding import as_is
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import JobView
from conserver.http.api.submitting import Wish
from conserver.operations import documents, index
from conserver.operations.tokens import Token
from conserver.queue import jobs

router = APIRouter(prefix="/v1/vcons", tags=["vcons"])


class Stored(BaseModel):
    """A stored document."""

    uuid: str


_DOCUMENT = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


async def _document(request: Request, context: Context) -> tuple[str, bytes]:
    raw = await bodies.whole(request, context.settings.max_document_bytes)
    if len(raw) > bodies.PARSE_INLINE_BYTES:
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
    openapi_extra={
        **_DOCUMENT,
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": description,
                "schema": {"type": "string", **schema},
            }
            for name, description, schema in (
                ("list", "Queue it on this list", {}),
                ("job", "An id of your own for its job", {"pattern": r"^[A-Za-z0-9._-]{0,64}$"}),
                ("not_before", "When it may run; with a time zone", {"format": "date-time"}),
                ("priority", "Of the chain's `priorities`", {"enum": ["high", "normal", "low"]}),
            )
        ],
    },
)
async def post(request: Request) -> Response:
    """Stores the body, a vCon, byte for byte. With `list` it also makes a job."""
    # This route is called most often. Without declared parameters it costs half as much, so the
    # code reads them from the request.
    context, query = context_of(request), request.query_params
    token = token_with(request, "submit")
    name, job = query.get("list", ""), query.get("job", "")
    if job and not jobs.ID.fullmatch(job):
        raise ProblemError(422, "job: has 1 to 64 letters, digits and ._-", "invalid")
    not_before = query.get("not_before", "")
    due_ms = submitting.due_ms(submitting.moment(not_before))
    if name:
        priority = query.get("priority", "")
        name = submitting.prioritised_list(context, token, name, priority)
    uuid, raw = await _document(request, context)
    if not name:
        await asyncio.to_thread(_store, context, uuid, raw, lambda _: None)
        return Response(Stored(uuid=uuid).model_dump_json(), 201, {}, "application/json")
    fields = []
    if job:
        fields.append(("source", hashlib.sha256(raw + not_before.encode()).hexdigest()))
    wish = Wish(name, uuid, raw, job, due_ms, fields)
    return submitting.answer(request, *await submitting.submit(context, token, wish))


def _store(context: Context, uuid: str, raw: bytes, check: Callable[[bytes | None], None]) -> bool:
    with context.client() as client:
        expiry_s = context.settings.orphan_expiry_s
        return documents.store(client, uuid, raw, expiry_s=expiry_s, check=check)


@router.put(
    "/{uuid}",
    status_code=201,
    summary="Store a vCon under its uuid",
    response_model=Stored,
    responses={
        200: {"model": Stored, "description": "It replaced another one"},
        412: {"description": "If-Match or If-None-Match does not hold"},
        422: {"description": "No vCon, or that of another uuid"},
        502: {"description": "A storage that may have it could not be asked: with a condition"},
    },
    openapi_extra=_DOCUMENT,
)
async def put(
    request: Request, uuid: str, token: Annotated[Token, Depends(requires("submit"))]
) -> Response:
    """With `If-None-Match: *` it stores the document only if none exists, with `If-Match: ETAG` it
    replaces only that document. A document that only a storage has counts as existing.
    """
    context = context_of(request)
    found, raw = await _document(request, context)
    if found.lower() != uuid.lower():
        raise ProblemError(422, f"the document is that of another vCon: {found}", "other-uuid")
    wanted = request.headers.get("if-match")
    unwanted = request.headers.get("if-none-match")

    def check(before: bytes | None) -> None:
        if before is None and (wanted, unwanted) != (None, None):
            before = _stored(context, found)
        etags.check(wanted, unwanted, None if before is None else etags.of(before))

    replaced = await asyncio.to_thread(_store, context, found, raw, check)
    headers = {"ETag": etags.of(raw)}
    status = 200 if replaced else 201
    return Response(Stored(uuid=found).model_dump_json(), status, headers, "application/json")


def _stored(context: Context, uuid: str) -> bytes | None:
    """The document in the first storage that has it. Raises ProblemError: 502."""
    found = documents.get(None, context.storages, uuid)
    if found.text is None and found.silent:
        raise _away(found.silent)
    return found.text


def _away(silent: Iterable[str]) -> ProblemError:
    names = ", ".join(sorted(silent))
    return ProblemError(502, f"these storages could not be asked: {names}", "storage-away")


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
    """Reads the document from Redis, else from the storages in order, and returns its bytes."""
    context = context_of(request)
    submitting.check_uuid(uuid, 404)
    with context.client() as client:
        found = documents.get(client, context.storages, uuid)
    if found.text is None:
        if found.silent:
            raise _away(found.silent)
        raise ProblemError(404, f"there is no vCon {uuid}", "vcon-unknown")
    tag = etags.of(found.text)
    headers = {"ETag": tag, "X-Source": found.source, "Cache-Control": "private, no-cache"}
    if etags.matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(len(found.text))
    body = b"" if request.method == "HEAD" else found.text
    as_is(request)
    return Response(body, 200, headers, "application/json")


@router.delete(
    "/{uuid}",
    status_code=204,
    summary="Delete a vCon",
    response_class=Response,
    responses={502: {"description": "Some storages could not delete it: `failed` names them"}},
)
def delete(
    request: Request, uuid: str, token: Annotated[Token, Depends(requires("admin"))]
) -> Response:
    """Deletes the document in Redis and in every storage, except webhooks. 204 also if no place had
    it.

    Waiting items of the document become dead letters: cancel its jobs first.
    """
    context = context_of(request)
    submitting.check_uuid(uuid, 404)
    with context.client() as client:
        deleted = documents.delete(client, context.storages, uuid, actor=token.name)
        index.remove(client, context.settings, uuid)
    if deleted.failed:
        raise ProblemError(
            502,
            "it may still be in these storages, which failed: " + ", ".join(deleted.failed),
            "storage-away",
            failed=sorted(deleted.failed),
            deleted=deleted.places,
        )
    return Response(status_code=204)
