"""How long a body may take to arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import ClientDisconnect

from conserver.http.api import bodies
from conserver.http.api.problems import ProblemError


async def sent(*pieces: bytes, then: str = "end") -> AsyncIterator[bytes]:
    """A client that sends these pieces; then its body is at its `end`, or it `stalls` or `goes`."""
    for piece in pieces:
        yield piece
    if then == "stalls":
        await asyncio.Event().wait()
    elif then == "goes":
        raise ClientDisconnect


def read(stream: AsyncIterator[bytes], stall_s: float = 60) -> list[bytes]:
    async def all_of_it() -> list[bytes]:
        return [piece async for piece in bodies.in_time(stream, stall_s)]

    return asyncio.run(all_of_it())


def test_a_body_passes_piece_by_piece() -> None:
    assert read(sent(b"a", b"", b"bc")) == [b"a", b"", b"bc"]


@pytest.mark.parametrize("pieces", [(), (b"token=half",)])
def test_a_body_that_stalls_is_refused(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(ProblemError, match=r"nothing of the body came for 0\.05 s") as caught:
        read(sent(*pieces, then="stalls"), 0.05)
    assert caught.value.status == 408


def test_a_client_that_goes_is_told_apart() -> None:
    with pytest.raises(ProblemError, match="the client has gone") as caught:
        read(sent(b"a", then="goes"))
    assert caught.value.status == 400
