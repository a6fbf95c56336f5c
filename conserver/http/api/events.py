"""The changes of one job: as server-sent events, or over a WebSocket.

A stream begins with the present state of the job, sends the job again at every change, and ends
after the job's end. The id of an event is the number of the change, so a client that connects again
with Last-Event-ID gets no event twice. A client that reads slowly misses changes, never the last.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from conserver.http.api import queue, submitting
from conserver.http.api.auth import token_of
from conserver.http.api.context import Context, context_of
from conserver.http.api.problems import ProblemError
from conserver.http.api.shapes import job_view
from conserver.http.api.subscriptions import TooManyListenersError
from conserver.operations.tokens import Token
from conserver.queue.jobs import Job

router = APIRouter(tags=["jobs"])

PING_S = 15.0
"""The interval of comments, which make proxies keep a stream without events open."""

RECONNECT_MS = 1000
_SEQ = re.compile(r"[0-9]{1,15}")


async def changes(context: Context, job: Job, after: int) -> AsyncIterator[Job | None]:
    """Yield the job at every change with a number above `after`, and None every PING_S.

    Ends after the end of the job, when the job has expired, and when this process stops.

    Raises:
        TooManyListenersError
    """
    async with context.subscriptions.listen(job.id) as changed:
        now: Job | None = await queue.job_of(context.shared, job.id)
        while now is not None and not context.subscriptions.closing:
            if now.seq > after:
                after = now.seq
                yield now
            if now.ended:
                return
            try:
                async with asyncio.timeout(PING_S):
                    await changed.wait()
            except TimeoutError:
                yield None
            changed.clear()
            now = await queue.job_of(context.shared, job.id)


@router.get(
    "/v1/jobs/{job}/events",
    summary="Follow a job live (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}},
        404: {"description": "It is not known (any more)"},
        503: {"description": "Too many follow here: poll instead"},
    },
)
async def events(
    request: Request,
    job: str,
    token: Annotated[Token, Depends(token_of)],
    last_event_id: Annotated[str, Header(description="The id of the last event seen")] = "",
) -> Response:
    """Each event is named `job`, and its data is the job as GET /v1/jobs/{job} shows it."""
    context = context_of(request)
    found = await submitting.visible_job(context, token, job)
    after = int(last_event_id) if _SEQ.fullmatch(last_event_id) else 0
    if len(context.subscriptions) >= context.subscriptions.limit:
        raise ProblemError(
            503,
            "too many follow here: poll instead",
            "too-many",
            {"Retry-After": "5"},
        )
    base = request.scope.get("root_path", "")
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _stream(context, found, after, base), 200, headers, "text/event-stream"
    )


async def _stream(context: Context, job: Job, after: int, base: str) -> AsyncIterator[str]:
    yield f"retry: {RECONNECT_MS}\n\n"
    with suppress(TooManyListenersError):
        async for now in changes(context, job, after):
            if now is None:
                yield ": ping\n\n"
            else:
                data = job_view(now, base).model_dump_json()
                yield f"id: {now.seq}\nevent: job\ndata: {data}\n\n"


@router.websocket("/ws/jobs/{job}")
async def follow(socket: WebSocket, job: str) -> None:
    """Each message is the job as JSON. A browser cannot send a header with a WebSocket; it may send
    the token as the subprotocol `bearer.TOKEN`.
    """
    context = context_of(socket)
    found = await submitting.visible_job(context, token_of(socket), job)
    offered = [name for name in socket.scope.get("subprotocols", []) if name.startswith("bearer.")]
    await socket.accept(offered[0] if offered else None)
    gone = asyncio.ensure_future(_until_gone(socket))
    try:
        base = socket.scope.get("root_path", "")
        async for now in changes(context, found, 0):
            if gone.done():
                return
            if now is not None:
                await socket.send_text(job_view(now, base).model_dump_json())
        await socket.close(1012 if context.subscriptions.closing else 1000)
    except (WebSocketDisconnect, RuntimeError):
        return  # The client has disconnected.
    except TooManyListenersError:
        await socket.close(1013, "too many follow jobs here")
    finally:
        gone.cancel()


async def _until_gone(socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive()
