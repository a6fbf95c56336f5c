"""What the coordinator's connection logs of an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import structlog
from redis.exceptions import BusyLoadingError, ReadOnlyError
from structlog.testing import capture_logs

from conserver.coordinator.connections import AsyncRetryingConnection, Connections


class Answering:
    """A connection, and what makes it, with prepared answers: one for each command."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)

    def make(self) -> Answering:
        return self

    async def connect(self) -> None:
        pass

    async def disconnect(self, nowait: bool) -> None:
        pass

    def pack_commands(self, commands: Sequence[Any]) -> Sequence[Any]:
        return commands

    async def send_packed_command(self, _packed: Sequence[Any], check_health: bool) -> None:
        pass

    async def read_response(self) -> object:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_two_errors_by_turns_are_logged_once_each_in_an_outage() -> None:
    """As in a failover: Redis loads its data, refuses a write, loads again."""
    loads, refuses = BusyLoadingError("loading"), ReadOnlyError("a replica")
    answers = Answering(loads, refuses, loads, refuses, b"PONG", loads, b"PONG")

    async def scene() -> None:
        redis = AsyncRetryingConnection(cast(Connections, answers), structlog.get_logger())
        for _ in range(2):
            assert await redis.command("PING") == b"PONG"

    with capture_logs() as lines:
        asyncio.run(scene())
    away, back = "redis_away", "redis_back"
    assert [line["event"] for line in lines] == [away, away, back, away, back]
    assert lines[0]["what"] != lines[1]["what"]
