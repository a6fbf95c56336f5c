"""Makes a vCon of an upload or a URL: with the content, or with the address of the content.

A recording becomes the vCon's only dialog, a document (PDF, picture, office text) its first
attachment.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from conserver.http.api.context import Context
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import iso
from conserver.media.transcription.request import Request
from conserver.operations.recordings import new_uuid
from conserver.outbound.uploads import Store, Upload, media_type
from conserver.vcon.document import encode_body
from conserver.vcon.media import is_document


def stays(context: Context, upload: Upload) -> bool:
    """Whether the content stays in the store and the vCon refers to it, because it is too large to
    become a part of the vCon.
    """
    return upload.bytes > context.settings.inline_bytes


def check_kept(context: Context, upload: Upload, due_ms: int) -> None:
    """Check that the upload lasts until the job may begin. Raises ProblemError: 422."""
    keep_s = context.settings.upload_expiry_s
    until_s = upload.created_at + keep_s
    if keep_s and due_ms / 1000 > until_s:
        raise ProblemError(
            422,
            f"not_before: the recording is kept until {iso(until_s)} (CONSERVER_UPLOAD_EXPIRY_S)",
            "invalid",
        )


async def vcon_of_upload(
    context: Context,
    upload: Upload,
    body: str | None = None,
    *,
    meta: Any = None,
    request: Request | None = None,
) -> tuple[str, bytes]:
    """The uuid and the text of a vCon with the upload: a recording or a document.

    Content of up to CONSERVER_INLINE_BYTES becomes a part of the vCon. Larger content stays in the
    store, and the vCon has its URL and its hash.

    Args:
        body: the content in base64url, if the store does not have it.
        meta: a JSON object of the caller's, which is kept as an attachment.
        request: the caller's wishes for the transcription.

    Raises:
        FileNotFoundError: the upload has been removed.
        OSError: the store cannot be read.
    """
    if body is None and not stays(context, upload):
        body = await context.transfer(_body, context.uploads, upload)
    part: dict[str, Any] = {
        "mediatype": upload.mediatype,
        "filename": upload.filename,
        "content_hash": "sha512-" + encode_body(bytes.fromhex(upload.sha512)),
    }
    if body is not None:
        part |= {"body": body, "encoding": "base64url"}
    else:
        part["url"] = upload.url
    return _vcon(part, upload.filename, meta, request)


def _body(uploads: Store, upload: Upload) -> str:
    return encode_body(uploads.read(upload.id, upload.bytes))


def vcon_of_url(url: str, mediatype: str = "", meta: Any = None) -> tuple[str, bytes]:
    """The uuid and the text of a vCon whose recording or document a worker fetches."""
    part: dict[str, Any] = {"url": url}
    if mediatype:
        part["mediatype"] = media_type(mediatype)
    name = name_in_url(url)
    if name and is_document({**part, "filename": name}):
        part["filename"] = name
    return _vcon(part, name, meta)


def name_in_url(url: str) -> str:
    """The last part of a URL's path."""
    return url.partition("?")[0].rpartition("/")[2]


def _vcon(
    part: dict[str, Any], subject: str, meta: Any, request: Request | None = None
) -> tuple[str, bytes]:
    now = datetime.now(UTC).isoformat()
    uuid = new_uuid()
    document: dict[str, Any] = {
        "vcon": "0.4.0",
        "uuid": uuid,
        "created_at": now,
        "parties": [{"name": "party 1"}],
    }
    attachments: list[dict[str, Any]] = []
    place = {"party": 0}
    if is_document(part):
        attachments.append({"purpose": "document", "start": now, **place, **part})
    else:
        document["dialog"] = [{"type": "recording", "start": now, "parties": 0, **part}]
        place["dialog"] = 0
    if subject:
        document["subject"] = subject
    if request and request != Request():
        attachments.append(request.attachment(now))
    if meta:
        attachments.append(
            {
                "purpose": "metadata",
                "start": now,
                **place,
                "mediatype": "application/json",
                "body": orjson.dumps(meta).decode(),
                "encoding": "json",
            }
        )
    if attachments:
        document["attachments"] = attachments
    return uuid, orjson.dumps(document)
