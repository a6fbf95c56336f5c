"""What the middleware hides, and what it passes unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from conserver.http.api.hiding import Hiding, as_is

URL, SHOWN = "redis://u:p4ss@h/", "redis://u:***@h/"


def sent(response: Response, *, owned: bool = False, kind: str = "http") -> list[Message]:
    """What leaves of a response. owned: the route says that it leaves as it is."""
    messages: list[Message] = []

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if owned:
            as_is(Request(scope))
        await response(scope, receive, send)

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(Hiding(route)({"type": kind, "state": {}}, receive, send))
    return messages


def body_of(messages: list[Message]) -> bytes:
    return b"".join(one.get("body", b"") for one in messages)


async def pieces(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


@pytest.mark.parametrize("kind", ["application/json", "application/problem+json", "text/plain"])
@pytest.mark.parametrize("cut", [None, 9])
def test_an_answer_is_hidden_as_a_whole(kind: str, cut: int | None) -> None:
    """Also if it comes in pieces that divide the secret; its length is that of the new body."""
    text = f'["{URL}"]'
    response: Response = Response(text, media_type=kind)
    if cut:
        response = StreamingResponse(pieces(text[:cut], text[cut:]), media_type=kind)
    start, *rest = sent(response)
    assert body_of(rest) == f'["{SHOWN}"]'.encode()
    assert dict(start["headers"])[b"content-length"] == str(len(body_of(rest))).encode()


@pytest.mark.parametrize(("status", "shown"), [(200, URL), (206, URL), (404, SHOWN), (502, SHOWN)])
def test_what_a_client_owns_passes_but_errors_do_not(status: int, shown: str) -> None:
    assert body_of(sent(JSONResponse([URL], status), owned=True)) == f'["{shown}"]'.encode()


@pytest.mark.parametrize(
    "response",
    [
        Response(URL, media_type="text/html"),
        Response(URL, media_type="audio/wav"),
        Response(URL, headers={"content-encoding": "gzip"}, media_type="text/plain"),
        Response(status_code=204),
    ],
)
def test_other_answers_pass_message_by_message(response: Any) -> None:
    start, body = sent(response)
    assert (start["type"], body["body"]) == ("http.response.start", response.body)


def test_the_answer_to_a_refused_websocket_is_hidden() -> None:
    messages = sent(JSONResponse([URL], 404), kind="websocket")
    assert {one["type"].rpartition(".")[0] for one in messages} == {"websocket.http.response"}
    assert body_of(messages) == f'["{SHOWN}"]'.encode()


def test_events_are_hidden_one_by_one() -> None:
    """Those with JSON. HTML in an event was hidden by its template."""
    event, page = f'id: 1\ndata: {{"a":"{URL}"}}\n\n', f"data: <p>{URL}\ndata: </p>\n\n"
    response = StreamingResponse(pieces(event, page), media_type="text/event-stream")
    _, first, second, _ = sent(response)
    assert first["body"] == event.replace(URL, SHOWN).encode()
    assert second["body"] == page.encode()
