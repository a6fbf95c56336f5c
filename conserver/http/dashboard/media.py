"""/ui/items/{uuid}/dialogs/{number}/recording: a recording, for the player of the item's page.

The bytes come from the vCon, from the upload store, or from the server that the vCon names. In the
last case this process relays them: the browser is not sent to that server, which may be a
stranger's. Ranges are supported, so that the player can seek. Media types that browsers do not play
are only downloaded, so nothing of a vCon is ever sent as a page or a script.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from anyio import CapacityLimiter, to_thread
from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from conserver.config.model import Config
from conserver.errors import Rejected, Retry
from conserver.http.api.problems import ProblemError
from conserver.http.api.upload_content import content as content_of
from conserver.http.dashboard import call
from conserver.http.dashboard.item import document_of
from conserver.http.dashboard.pages import Pages, Visit
from conserver.outbound.faults import FailedAttemptError
from conserver.outbound.fetch import FetchOptions
from conserver.outbound.relay import Relay
from conserver.outbound.uploads import SCHEME
from conserver.telemetry import log
from storage.reading import NotBase64Error, decode_body, media_type

pages = Pages()
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_PLAIN = "application/octet-stream"
_TRANSCRIBES = "links.transcribe"


@pages.get("/items/{uuid}/dialogs/{number}/recording")
def recording(visit: Visit) -> Response:
    """The bytes of a dialog's recording."""
    number = visit.name("number")
    dialog = None
    if number.isdecimal() and len(number) < 6:
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
    if content is None and isinstance(url, str) and call.is_fetched(url):
        return _passed_on(visit, url, kind, headers)
    if content is None:
        raise ProblemError(404, "the dialog holds no recording", "no-recording")
    return ranged(content, visit.request.headers.get("range", ""), kind, headers)


def _passed_on(visit: Visit, url: str, kind: str, headers: dict[str, str]) -> Response:
    """Fetches the content of a URL, with the limits of the link that transcribes.

    Raises:
        ProblemError: 403: the URL may not be fetched; 502: fetching failed.
    """
    wanted = visit.request.headers.get("range", "")
    try:
        relay = Relay(url, _rules(visit.context.config), wanted)
    except Rejected as error:
        raise ProblemError(403, error.reason, "recording-refused") from None
    except (Retry, FailedAttemptError) as error:
        raise ProblemError(502, str(error), "recording-away") from None
    if visit.request.method == "HEAD":
        relay.close()
        return Response(None, relay.status, {**relay.headers, **headers}, kind)
    return _Relayed(relay, visit.dashboard.relaying, kind, {**relay.headers, **headers})


def _rules(config: Config) -> FetchOptions:
    """The fetch options of the first link that transcribes; without one, the strictest options."""
    for link in config.links.values():
        if link.module == _TRANSCRIBES:
            with suppress(ValidationError):
                return FetchOptions.model_validate(link.options.get("fetch", {}))
    return FetchOptions()


class _Relayed(StreamingResponse):
    """Sends the bytes of a relay, and closes it at the end, also after an error."""

    def __init__(
        self, relay: Relay, threads: CapacityLimiter, kind: str, headers: dict[str, str]
    ) -> None:
        """threads: limits the threads that wait for other servers."""
        self._relay, self._threads = relay, threads
        super().__init__(self._chunks(), relay.status, headers, kind)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except Retry as error:
            # The answer stays incomplete, so the connection is closed and the browser notices it.
            log.get_logger().warning("recording_broke_off", reason=str(error))
        finally:
            self._relay.close()

    async def _chunks(self) -> AsyncIterator[bytes]:
        chunks = self._relay.chunks()
        while True:
            chunk = await to_thread.run_sync(next, chunks, None, limiter=self._threads)
            if chunk is None:
                return
            yield chunk


def ranged(content: bytes, wanted: str, kind: str, headers: dict[str, str]) -> Response:
    """The whole content, or the requested range of it (RFC 9110, section 14)."""
    headers = {**headers, "accept-ranges": "bytes"}
    match = _RANGE.fullmatch(wanted.strip())
    first, last = match.groups() if match is not None else ("", "")
    if not (first or last) or (first and last and int(last) < int(first)):
        return Response(content, 200, headers, kind)  # Also if several ranges are wanted.
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
