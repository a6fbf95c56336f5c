"""A recording as the vCon that a job works on: one dialog, with its content or where that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from conserver.operations.recordings import new_uuid
from conserver.outbound.uploads import Upload, Uploads, media_type
from conserver.transcription.request import Request
from conserver.vcon.document import encode_body


@dataclass(slots=True)
class Brought:
    """The recording that came with a request.

    needed: whether a job may refer to it. It is told before the job is made, because nobody knows
    what became of a call to Redis without an answer.
    """

    upload: Upload | None
    needed: bool = False


@asynccontextmanager
async def brought(uploads: Uploads, upload: Upload | None) -> AsyncIterator[Brought]:
    """Removes the upload at the end unless it is needed."""
    found = Brought(upload)
    try:
        yield found
    finally:
        if upload is not None and not found.needed:
            await asyncio.to_thread(uploads.remove, upload.id)


def vcon_of_upload(
    upload: Upload,
    uploads: Uploads,
    inline_bytes: int,
    meta: Any = None,
    request: Request | None = None,
) -> tuple[str, bytes]:
    """The uuid and the text of a vCon with that recording.

    Up to `inline_bytes` the content is a part of the vCon; a larger one stays where it is, and the
    dialog has its address and its hash.

    Args:
        meta: what the caller wants to be kept with it: a JSON object, as an attachment.
        request: what the caller wants of its transcription.
    """
    dialog: dict[str, Any] = {
        "mediatype": upload.mediatype,
        "filename": upload.filename,
        "content_hash": "sha512-" + encode_body(bytes.fromhex(upload.sha512)),
    }
    if upload.bytes <= inline_bytes:
        content = uploads.path(upload.id).read_bytes()
        dialog |= {"body": encode_body(content), "encoding": "base64url"}
    else:
        dialog["url"] = upload.url
    return _vcon(dialog, upload.filename, meta, request)


def vcon_of_url(url: str, mediatype: str = "", meta: Any = None) -> tuple[str, bytes]:
    """The uuid and the text of a vCon whose recording a worker fetches."""
    dialog: dict[str, Any] = {"url": url}
    if mediatype:
        dialog["mediatype"] = media_type(mediatype)
    return _vcon(dialog, url.partition("?")[0].rpartition("/")[2], meta)


def _vcon(
    dialog: dict[str, Any], subject: str, meta: Any, request: Request | None = None
) -> tuple[str, bytes]:
    now = datetime.now(UTC).isoformat()
    uuid = new_uuid()
    document: dict[str, Any] = {
        "vcon": "0.4.0",
        "uuid": uuid,
        "created_at": now,
        "parties": [{"name": "party 1"}],
        "dialog": [{"type": "recording", "start": now, "parties": 0, **dialog}],
    }
    if subject:
        document["subject"] = subject
    attachments = [request.attachment(now)] if request and request != Request() else []
    if meta:
        attachments.append(
            {
                "purpose": "metadata",
                "start": now,
                "party": 0,
                "dialog": 0,
                "mediatype": "application/json",
                "body": orjson.dumps(meta).decode(),
                "encoding": "json",
            }
        )
    if attachments:
        document["attachments"] = attachments
    return uuid, orjson.dumps(document)
