"""/v1/uploads: takes a recording or a document, before a job that uses it is submitted."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conserver.http.api import bodies, offers, openapi
from conserver.http.api.auth import requires, token_of
from conserver.http.api.context import context_of
from conserver.http.api.hiding import as_is
from conserver.http.api.incoming import WRITE_BYTES
from conserver.http.api.multipart import store_failed
from conserver.http.api.problems import ProblemError, invalid
from conserver.http.api.shapes import iso
from conserver.http.api.upload_content import content
from conserver.operations.tokens import Token
from conserver.outbound import uploads as store
from conserver.outbound.uploads import Offer, Upload, Writer

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])


class NewUpload(BaseModel):
    """What the client knows of an upload before it sends it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"bytes": 480044, "filename": "call.wav"}}
    )

    bytes: int = Field(0, ge=0, description="The size; if given, another size is refused.")
    mediatype: str = Field("", max_length=255, description="Used if the PUT has no Content-Type.")
    filename: str = Field("", max_length=1024, description="Used if the PUT has no X-Filename.")


class UploadOffer(BaseModel):
    """The address of a new upload: PUT the bytes to `url`.

    If `url` is a path, it is on this server and needs the same token. If it is an absolute URL, it
    is presigned: send no token.
    """

    upload_id: str
    url: str
    method: str = "PUT"
    expires_at: str


class UploadView(BaseModel):
    """A complete upload. sha512: in hex."""

    upload_id: str
    bytes: int
    mediatype: str
    filename: str
    sha512: str
    created_at: str


@router.post(
    "",
    status_code=201,
    summary="Announce an upload",
    responses={
        413: {"description": "Too large"},
        422: {"description": "The body is no such object"},
    },
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": openapi.schema_of(NewUpload)}}}
    },
)
async def announce(
    request: Request, token: Annotated[Token, Depends(requires("submit"))]
) -> UploadOffer:
    """Returns the address for an upload. The upload's id is a secret: whoever knows it may use the
    upload.

    If uploads are kept in a bucket, the address is a presigned URL of the bucket, and the recording
    does not pass through this server. The body of this request describes the upload, or is {}.
    """
    context = context_of(request)
    wanted = _wanted(await bodies.whole(request, bodies.JSON_BYTES_MAX))
    if wanted.bytes > context.settings.upload_max_bytes:
        raise bodies.too_large(context.settings.upload_max_bytes)
    until = time.time() + context.settings.upload_offer_s
    offer = Offer(token.name, until, wanted.mediatype, wanted.filename, wanted.bytes)
    upload_id = store.new_id()
    url = await context.transfer(context.uploads.presigned, upload_id, offer)
    await offers.note(context, upload_id, offer)
    base = request.scope.get("root_path", "")
    as_is(request)
    return UploadOffer(
        upload_id=upload_id,
        url=url or f"{base}/v1/uploads/{upload_id}",
        expires_at=iso(until),
    )


def _wanted(raw: bytes) -> NewUpload:
    try:
        return NewUpload.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise invalid(error) from None


@router.put(
    "/{upload_id}",
    status_code=201,
    summary="Send the bytes of an upload",
    responses={
        404: {"description": "It was not announced by this token, or too long ago"},
        413: {"description": "Too large"},
        422: {"description": "Not as many bytes as were announced"},
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
    """Writes the body to the store while it arrives. A body that breaks off leaves nothing; it may
    be sent again.
    """
    context = context_of(request)
    offer = await offers.of(context, upload_id)
    if offer is None or offer.by != token.name or time.time() > offer.until:
        raise ProblemError(
            404, "no such upload was announced: POST /v1/uploads first", "upload-unknown"
        )
    mediatype = request.headers.get("content-type", "") or offer.mediatype
    most_bytes = offer.bytes or context.settings.upload_max_bytes
    try:
        writer = await asyncio.to_thread(context.uploads.begin, upload_id)
        try:
            size = await _receive(request, writer, most_bytes)
            if offer.bytes and size != offer.bytes:
                raise ProblemError(422, f"{offer.bytes} bytes were announced, {size} came", "size")
            name = request.headers.get("x-filename", "") or offer.filename
            made = await context.transfer(writer.finish, mediatype, name, token.name)
        finally:
            await asyncio.to_thread(writer.abandon)
    except OSError as error:
        raise store_failed(error) from None
    return _view(made)


async def _receive(request: Request, writer: Writer, most_bytes: int) -> int:
    """Write the body to the store. Returns the number of bytes."""
    pieces, size, written = [], 0, 0
    async for piece in bodies.chunks(request, most_bytes):
        pieces.append(piece)
        size += len(piece)
        if size - written >= WRITE_BYTES:
            await asyncio.to_thread(writer.write, b"".join(pieces))
            pieces, written = [], size
    await asyncio.to_thread(writer.write, b"".join(pieces))
    return size


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
    """Returns the upload; with `Range` a part of it. Needs the role `read`, or the token that sent
    the upload.
    """
    context = context_of(request)
    found = await offers.complete(context, upload_id)
    if found is None or not (token.may("read") or found.by == token.name):
        raise ProblemError(404, "there is no complete upload of that id", "upload-unknown")
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": "attachment",
    }
    kind = found.mediatype
    return await context.transfer(content, context.uploads, request, found, kind, headers)


def _view(made: Upload) -> UploadView:
    return UploadView(
        upload_id=made.id,
        bytes=made.bytes,
        mediatype=made.mediatype,
        filename=made.filename,
        sha512=made.sha512,
        created_at=iso(made.created_at),
    )
