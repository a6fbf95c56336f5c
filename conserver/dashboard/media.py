"""/ui/items/{uuid}/dialogs/{number}/recording: a recording, for the player of the item's page.

From the vCon itself or from the upload store, with ranges, so that a player can begin anywhere.
What browsers do not play is only downloaded: nothing of a vCon is ever sent as a page or a script.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from conserver.api.problems import ProblemError
from conserver.api.upload_content import content as content_of
from conserver.dashboard import call
from conserver.dashboard.item import document_of
from conserver.dashboard.pages import Pages, Visit
from conserver.outbound.uploads import SCHEME
from storage.reading import NotBase64Error, decode_body, media_type

pages = Pages()
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PLAIN = "application/octet-stream"


@pages.get("/items/{uuid}/dialogs/{number}/recording")
def recording(visit: Visit) -> Response:
    """The bytes of a dialog's recording."""
    number = visit.name("number")
    dialog = None
    if number.isdigit() and len(number) < 6:
        dialog = call.dialog_of(document_of(visit), int(number))
    if dialog is None:
        raise ProblemError(404, "the vCon has no such dialog", "dialog-unknown")
    kind = media_type(dialog) or ""
    headers = {"content-disposition": "inline"}
    if kind not in call.PLAYED:
        kind, headers = _PLAIN, {"content-disposition": "attachment"}
    url = dialog.get("url")
    if isinstance(url, str) and url.startswith(SCHEME):
        upload = visit.context.uploads.find(url.removeprefix(SCHEME))
        if upload is None:
            raise ProblemError(404, "the recording is not kept any more", "upload-gone")
        return content_of(visit.context.uploads, visit.request, upload, kind, headers)
    content = _content(dialog)
    if content is None:
        raise ProblemError(404, "the dialog holds no recording", "no-recording")
    return ranged(content, visit.request.headers.get("range", ""), kind, headers)


def ranged(content: bytes, wanted: str, kind: str, headers: dict[str, str]) -> Response:
    """The whole content, or the one range of it that was asked for (RFC 9110, section 14)."""
    headers = {**headers, "accept-ranges": "bytes"}
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or not any(match.groups()):
        return Response(content, 200, headers, kind)  # Also for several ranges: that is allowed.
    first, last = match.groups()
    begin = int(first) if first else max(len(content) - int(last), 0)
    end = min(int(last), len(content) - 1) if first and last else len(content) - 1
    if begin > end:
        return Response(status_code=416, headers={"content-range": f"bytes */{len(content)}"})
    headers["content-range"] = f"bytes {begin}-{end}/{len(content)}"
    return Response(content[begin : end + 1], 206, headers, kind)


def _content(dialog: dict[str, Any]) -> bytes | None:
    try:
        content = decode_body(dialog)
    except NotBase64Error:
        return None
    return content if isinstance(content, bytes) and content else None
