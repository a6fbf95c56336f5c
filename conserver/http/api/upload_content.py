"""Answers with the bytes of an upload: all of them, or the range that the request wants."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from conserver.http.api.hiding import as_is
from conserver.http.api.problems import ProblemError
from conserver.outbound.uploads import Pieces, Store, Upload


def content(
    store: Store, request: Request, found: Upload, media_type: str, headers: Mapping[str, str]
) -> Response:
    """The content of an upload, or the range of it that the request wants (RFC 9110, section 14).

    The call blocks, because it opens the content: call it in a thread.

    Raises:
        ProblemError: 404: the upload has been removed; 416: the range contains no byte of it.
        StoreError: the bucket does not answer.
    """
    part = _range(request.headers.get("range", ""), found.bytes)
    first, last = part or (0, found.bytes - 1)
    sent = {
        **headers,
        "Content-Length": str(last - first + 1),
        "Accept-Ranges": "bytes",
        "Content-Type": media_type,
    }
    if part:
        sent["Content-Range"] = f"bytes {first}-{last}/{found.bytes}"
    status = 206 if part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=sent)
    try:
        pieces = store.pieces(found.id, first, last)
    except FileNotFoundError:
        raise ProblemError(404, "the upload is not kept any more", "upload-unknown") from None
    as_is(request)
    return _Sent(pieces, status, sent)


class _Sent(StreamingResponse):
    """Sends the pieces of a content, and closes it at the end, also after an error."""

    def __init__(self, pieces: Pieces, status: int, headers: Mapping[str, str]) -> None:
        self._pieces = pieces
        super().__init__(pieces, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then close the content."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()


_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


def _range(text: str, size: int) -> tuple[int, int] | None:
    """The first and last byte of a Range header. None: send all, because the header is missing or
    malformed.

    Raises:
        ProblemError: 416: the range contains no byte of the content.
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
