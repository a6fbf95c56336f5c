"""The file of a form: in memory while it is small and there is room, else in the store."""

from __future__ import annotations

import base64
import hashlib

import httpx
import orjson
import pytest

from conserver.http.api.context import ROOM_BYTES, Room
from conserver.vcon.content import encode_body
from tests.api.conftest import Api
from tests.queues import Queue

INLINE_BYTES = 1 << 20


def hand_in(submit: httpx.Client, content: bytes) -> str:
    """The uuid of the vCon that a recording became."""
    files = {"file": ("call.wav", content, "audio/wav")}
    answer = submit.post("/v1/jobs", data={"list": "calls"}, files=files)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["uuid"])


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_what_becomes_a_part_of_its_vcon_needs_no_store(
    submit: httpx.Client, api: Api, queue: Queue, more: int
) -> None:
    content = bytes(range(256)) * (INLINE_BYTES // 256) + b"x"
    content = content[: INLINE_BYTES + more]
    uuid = hand_in(submit, content)
    [dialog] = orjson.loads(queue.client.get(f"vcon:{uuid}"))["dialog"]
    digest = hashlib.sha512(content).digest()
    assert dialog["content_hash"] == "sha512-" + encode_body(digest)
    folder = api.context.uploads.folder
    if more <= 0:
        padding = "=" * (-len(dialog["body"]) % 4)
        assert base64.urlsafe_b64decode(dialog["body"] + padding) == content
        assert not folder.exists()
    else:
        assert "body" not in dialog
        assert (folder / dialog["url"].removeprefix("upload:")).read_bytes() == content
    assert api.context.room.take(ROOM_BYTES), "all of it was given back"
    api.context.room.give(ROOM_BYTES)


def test_without_room_in_memory_a_small_one_goes_through_the_store(
    submit: httpx.Client, api: Api, queue: Queue
) -> None:
    api.context.room = Room(1000)
    content = bytes(range(256)) * 40
    uuid = hand_in(submit, content)
    [dialog] = orjson.loads(queue.client.get(f"vcon:{uuid}"))["dialog"]
    assert dialog["body"] == encode_body(content)
    assert list(api.context.uploads.folder.iterdir()) == [], "nothing of it stays there"
    assert api.context.room.take(1000)


def test_a_room_gives_no_more_than_it_has() -> None:
    room = Room(10)
    assert room.take(6)
    assert not room.take(5)
    assert room.take(4)
    room.give(10)
    assert room.take(10)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 49_151, 49_152, 49_153, 147_457])
def test_a_body_is_base64url_without_padding_whatever_its_length(size: int) -> None:
    content = hashlib.shake_256(b"sound").digest(size)
    assert encode_body(content) == base64.urlsafe_b64encode(content).decode().rstrip("=")
