"""/v1/uploads: a recording first, the job about it later."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from conserver.api import bodies
from conserver.api.auth import requires, token_of
from conserver.api.context import context_of
from conserver.api.multipart import WRITE_BYTES, store_failed
from conserver.api.problems import ProblemError
from conserver.api.shapes import iso
from conserver.operations.tokens import Token
from conserver.outbound import uploads as store
from conserver.outbound.uploads import Upload, Writer

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

OFFER_S = 86_400
"""How long an upload that was announced may take to arrive."""


class UploadOffer(BaseModel):
    """Where to send a recording: one PUT of its bytes to `url`, with the same token."""

    upload_id: str
    url: str
    method: str = "PUT"
    expires_at: str


class UploadView(BaseModel):
    """A complete upload. sha512 in hex."""

    upload_id: str
    bytes: int
    mediatype: str
    filename: str
    sha512: str
    created_at: str


@router.post("", status_code=201, summary="Announce an upload")
async def offer(
    request: Request, token: Annotated[Token, Depends(requires("submit"))]
) -> UploadOffer:
    """Gives the address for it. The id is a secret: whoever knows it may use the upload."""
    upload_id = store.new_id()
    key = _offered(upload_id)
    await context_of(request).redis.set(key, token.name, ex=OFFER_S)
    base = request.scope.get("root_path", "")
    expires_at = iso(time.time() + OFFER_S)
    return UploadOffer(
        upload_id=upload_id, url=f"{base}/v1/uploads/{upload_id}", expires_at=expires_at
    )


def _offered(upload_id: str) -> str:
    return f"conserver:upload:{upload_id}"


@router.put(
    "/{upload_id}",
    status_code=201,
    summary="Send the bytes of an upload",
    responses={
        404: {"description": "It was not announced by this token, or too long ago"},
        413: {"description": "Too large"},
        507: {"description": "The store is full"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def put(
    request: Request, upload_id: str, token: Annotated[Token, Depends(requires("submit"))]
) -> UploadView:
    """The body is written as it arrives; it is there whole, or not at all. May be sent again."""
    context = context_of(request)
    known = store.is_id(upload_id)
    owner: Any = await context.redis.get(_offered(upload_id)) if known else None
    if owner is None or owner.decode() != token.name:
        raise ProblemError(
            404, "no such upload was announced: POST /v1/uploads first", "upload-unknown"
        )
    mediatype = request.headers.get("content-type", "application/octet-stream")
    try:
        writer = await asyncio.to_thread(context.uploads.begin, upload_id)
        try:
            await _receive(request, writer, context.settings.upload_max_bytes)
            name = request.headers.get("x-filename", "")
            made = await asyncio.to_thread(writer.finish, mediatype, name, token.name)
        finally:
            await asyncio.to_thread(writer.abandon)
    except OSError as error:
        raise store_failed(error) from None
    return _view(made)


async def _receive(request: Request, writer: Writer, most_bytes: int) -> None:
    pieces, size = [], 0
    async for piece in bodies.chunks(request, most_bytes):
        pieces.append(piece)
        size += len(piece)
        if size >= WRITE_BYTES:
            await asyncio.to_thread(writer.write, b"".join(pieces))
            pieces, size = [], 0
    await asyncio.to_thread(writer.write, b"".join(pieces))


@router.get(
    "/{upload_id}",
    summary="The bytes of an upload",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"content": {"application/octet-stream": {}}, "description": "A part of it"},
        404: {"description": "There is no complete upload of that id"},
        416: {"description": "It is shorter than that"},
    },
)
@router.head("/{upload_id}", include_in_schema=False)
async def get(
    request: Request, upload_id: str, token: Annotated[Token, Depends(token_of)]
) -> Response:
    """With `Range` a part of it. Needs the role `read`, or to have sent it."""
    context = context_of(request)
    found = await asyncio.to_thread(context.uploads.find, upload_id)
    if found is None or not (token.may("read") or found.by == token.name):
        raise ProblemError(404, "there is no complete upload of that id", "upload-unknown")
    part = _range(request.headers.get("range", ""), found.bytes)
    first, last = part or (0, found.bytes - 1)
    headers = {
        "Content-Length": str(last - first + 1),
        "Accept-Ranges": "bytes",
        "Content-Type": found.mediatype,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": "attachment",
    }
    status = 200
    if part:
        status = 206
        headers["Content-Range"] = f"bytes {first}-{last}/{found.bytes}"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    path = str(context.uploads.path(upload_id))
    return StreamingResponse(_read(path, first, last), status, headers)


async def _read(path: str, first: int, last: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(first)
        left = last - first + 1
        while left > 0 and (piece := await file.read(min(left, WRITE_BYTES))):
            left -= len(piece)
            yield piece


_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


def _range(text: str, size: int) -> tuple[int, int] | None:
    """The first and last byte that are wanted; None for all: without a header, or with one that is
    not understood.

    Raises:
        ProblemError: 416: no byte of it is there.
    """
    match = _RANGE.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        begin, end = max(size - int(last), 0), size - 1
    else:
        begin, end = int(first), min(int(last or size), size - 1)
        if last and int(last) < begin:
            return None
    if begin >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise ProblemError(416, f"the upload has {size} bytes", "range", headers)
    return begin, end


def _view(made: Upload) -> UploadView:
    return UploadView(
        upload_id=made.id,
        bytes=made.bytes,
        mediatype=made.mediatype,
        filename=made.filename,
        sha512=made.sha512,
        created_at=iso(made.created_at),
    )
