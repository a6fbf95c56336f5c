"""Which counts an error about lost data tells, and which loss the host's status tells."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import structlog
from structlog.testing import capture_logs

from conserver.coordinator.connections import AsyncRetryingConnection
from conserver.coordinator.data_loss import DataLoss

COUNTED = [3, 0, 0, 0, 1]  # waiting, returned, suspects, parked, dead
EMPTY = [0, 0, 0, 0, 0]


class Answers:
    """A connection that gives prepared answers, one for each look."""

    def __init__(self, *answers: list[int]) -> None:
        self._answers = list(answers)

    async def each(self, commands: list[tuple[str, str]]) -> list[int]:
        assert [command for command, _ in commands] == ["LLEN", "LLEN", "LLEN", "ZCARD", "LLEN"]
        return self._answers.pop(0)


def test_what_was_counted_after_the_last_heartbeat_may_be_lost_already() -> None:
    """Redis was emptied after the second heartbeat, and before that heartbeat's count."""
    redis = cast(AsyncRetryingConnection, Answers(COUNTED, EMPTY, EMPTY))

    async def scene() -> None:
        loss = DataLoss(redis, "h", ["q"], 30, structlog.get_logger())
        await loss.look("1000.1", "", unknown=True, consumers=["c"], in_flight=2)
        await loss.look("2000.2", "1000.1", unknown=False, consumers=["c"], in_flight=2)
        await loss.look("3000.3", "", unknown=True, consumers=["c"], in_flight=2)

    with capture_logs() as lines:
        asyncio.run(scene())
    (line,) = lines
    found: dict[str, Any] = {name: line[name] for name in ("waiting", "parked", "dead")}
    assert found == {"waiting": 3, "parked": 0, "dead": 1}


def test_a_loss_at_the_second_heartbeat_has_the_counts_of_the_first() -> None:
    redis = cast(AsyncRetryingConnection, Answers(COUNTED, EMPTY))

    async def scene() -> None:
        loss = DataLoss(redis, "h", ["q"], 30, structlog.get_logger())
        await loss.look("1000.1", "", unknown=True, consumers=["c"], in_flight=2)
        await loss.look("2000.2", "", unknown=True, consumers=["c"], in_flight=2)

    with capture_logs() as lines:
        asyncio.run(scene())
    assert [(line["waiting"], line["dead"]) for line in lines] == [(3, 1)]


def test_the_status_tells_the_loss_of_most_items_in_a_day() -> None:
    """Redis comes back empty a second time, a third time with more items, and two days later."""
    counts = [COUNTED, EMPTY, [9, 0, 0, 0, 0], EMPTY, EMPTY, EMPTY, EMPTY, EMPTY]
    redis = cast(AsyncRetryingConnection, Answers(*counts))
    told = []

    async def scene() -> None:
        loss = DataLoss(redis, "h", ["q"], 30, structlog.get_logger())
        assert loss.fields == {}
        for number in range(8):
            if number == 7:
                loss.lost["at"] -= 2 * 86_400
            await loss.look(f"{number}.{number}", "", unknown=True, consumers=["c"], in_flight=0)
            told.append(orjson.loads(loss.fields.get("lost", "{}")).get("known", {}).get("waiting"))

    with capture_logs() as lines:
        asyncio.run(scene())
    assert [line["waiting"] for line in lines] == [3, 3, 0, 9, 0, 0, 0]
    assert told == [None, 3, 3, 3, 9, 9, 9, 0]
