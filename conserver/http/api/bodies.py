"""Reads the body of a request, with limits on its size and on how long the client may pause."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from conserver.http.api.problems import ProblemError
from conserver.http.api.token_limits import Allowance

JSON_BYTES_MAX = 1 << 20
"""The most bytes of a JSON body that contains no vCon."""

PARSE_INLINE_BYTES = 256 * 1024
"""A larger document is parsed in a thread, so that the event loop serves other requests."""

STALL_S_MAX = 30.0
"""How long a client may pause within a body."""

GRACE_S = 60.0
BYTES_PER_S_MIN = 1024
"""The average rate that a body must have after GRACE_S, against clients that send single bytes."""


async def in_time(
    stream: AsyncIterator[bytes], stall_s: float = STALL_S_MAX
) -> AsyncIterator[bytes]:
    """The pieces of a body, as they arrive.

    Args:
        stream: of a request.
        stall_s: how long the client may pause.

    Raises:
        ProblemError: 408: the client pauses for too long or is too slow; 400: it has disconnected.
    """
    size, began_s, loop = 0, time.monotonic(), asyncio.get_running_loop()
    while True:
        try:
            async with asyncio.timeout_at(loop.time() + stall_s):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _too_slow(f"nothing of the body came for {stall_s:g} s") from None
        except ClientDisconnect:
            raise ProblemError(400, "the client has gone before the end of the body") from None
        size += len(piece)
        if time.monotonic() - began_s > GRACE_S + size / BYTES_PER_S_MIN:
            raise _too_slow(f"the body comes with less than {BYTES_PER_S_MIN} bytes/s")
        yield piece


def _too_slow(detail: str) -> ProblemError:
    return ProblemError(408, detail, "body-stalled")


async def chunks(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The body, piece by piece, as it arrives.

    Raises:
        ProblemError: as `in_time` does; 413: it is larger than `most_bytes`; 429: it exceeds what
            its token may send today.
    """
    declared, allowance = request.headers.get("content-length", ""), Allowance(request)
    if declared.isdigit():
        if int(declared) > most_bytes:
            raise too_large(most_bytes)
        await allowance.take(int(declared))
    size = 0
    async for piece in in_time(request.stream()):
        size += len(piece)
        if size > most_bytes:
            raise too_large(most_bytes)
        await allowance.take(size)
        if piece:
            yield piece


def too_large(most_bytes: int) -> ProblemError:
    """413, with the size that is allowed."""
    return ProblemError(
        413, f"the body is larger than {most_bytes} bytes", "too-large", max_bytes=most_bytes
    )


async def whole(request: Request, most_bytes: int) -> bytes:
    """The body, whole. Raises ProblemError as `chunks` does."""
    parts = [piece async for piece in chunks(request, most_bytes)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def member_of(raw: bytes, name: str) -> bytes:
    """The bytes of one member of a JSON object, exactly as the client sent them.

    A parsed and serialized value could differ, such as a number with many digits. If several
    members have the name, the last one counts.

    Args:
        raw: an object that orjson has parsed without an error.

    Raises:
        ProblemError: 422: the object is nested too deeply.
    """
    text, found = raw.decode(), ""
    decoder = json.JSONDecoder(parse_int=len, parse_float=len)  # Only positions matter here.
    try:
        at = text.index("{") + 1
        while (key_at := _beyond(text, at, ",")) < len(text) and text[key_at] == '"':
            key, at = decoder.raw_decode(text, key_at)
            begin = _beyond(text, at, ":")
            _, at = decoder.raw_decode(text, begin)
            if key == name:
                found = text[begin:at]
    except RecursionError:
        raise ProblemError(422, "the body is nested too deeply", "not-json") from None
    return found.encode()


def _beyond(text: str, at: int, mark: str) -> int:
    """The index of the first character after white space and at most one `mark`."""
    while at < len(text) and text[at] in f" \t\r\n{mark}":
        at += 1
    return at


async def json_object(request: Request, most_bytes: int = JSON_BYTES_MAX) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        ProblemError: as `chunks` does, and 422 if it is no JSON object.
    """
    raw = await whole(request, most_bytes)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:  # Also if it is nested too deeply.
        raise ProblemError(422, f"the body is not JSON: {error}", "not-json") from None
    if not isinstance(value, dict):
        raise ProblemError(422, "the body is no JSON object", "not-an-object")
    return value
