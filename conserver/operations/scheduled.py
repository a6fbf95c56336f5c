"""Does the run of a schedule: a requeue, a purge, or a query whose results are pushed to a list.

The run stores its progress in Redis. Its process may give up the run after any step; then another
host continues it. Moved letters stay moved, and a query continues after the last pushed page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

from conserver.config.model import Config
from conserver.config.schedules import FindAction, LettersAction, ScheduleConfig
from conserver.config.settings import Settings
from conserver.errors import ConserverError, OperationError
from conserver.operations import dead_letter_moves
from conserver.operations.connection import Client
from conserver.operations.dead_letters import Filter, parse_age
from conserver.operations.documents import StorageReader
from conserver.queue import keys, schedules, script, wishes
from conserver.queue.schedules import EXIT_GIVEN_UP, LEASE_S
from conserver.telemetry import log
from conserver.telemetry.redact import redact_text

TEND_EVERY_S = 3.0
PAGE = 500
"""How many vCons one query asks of a storage."""


@dataclass(frozen=True)
class Task:
    """The run that the coordinator passes to the child process.

    cursor: where an earlier host has stopped; "" for a new run.
    """

    name: str
    run: str
    cursor: str
    config: Config = field(repr=False)
    settings: Settings = field(repr=False)

    @property
    def schedule(self) -> ScheduleConfig:
        """The schedule of this run."""
        return self.config.schedules[self.name]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run.

    done: letters moved, or vCons found, since the beginning of the run. cursor: where to continue
    after this step. uuids: vCons that the step pushes.
    """

    done: int
    cursor: str = ""
    uuids: tuple[str, ...] = ()


class LostError(ConserverError):
    """Another host has taken the run over."""


def carry_out(client: Client, task: Task, stopping: threading.Event) -> int:
    """Do the rest of a run, and store its progress in Redis.

    Returns:
        0 if the run has ended, EXIT_GIVEN_UP if `stopping` was set.

    Raises:
        LostError: another host has taken over the run.
        OperationError: Redis or a storage does not answer; another host continues the run later.
    """
    tended_s, step = 0.0, Step(0)
    try:
        with closing(_steps(client, task)) as steps:
            for step in steps:
                if step.uuids or time.monotonic() - tended_s > TEND_EVERY_S:
                    tended_s = time.monotonic()
                    _tend(client, task, step)
                if stopping.is_set():
                    _tend(client, task, Step(step.done, step.cursor), lease_s=0)
                    return EXIT_GIVEN_UP
    except OperationError as error:
        if error.kind == "unavailable":
            wishes.ask(client, keys.schedule(task.name), {"trouble": redact_text(str(error))})
            raise
        return _end(client, task, {"error": redact_text(str(error)), "done": step.done})
    except ConserverError as error:  # a filter or a query that cannot be used
        if isinstance(error, LostError):
            raise
        return _end(client, task, {"error": redact_text(str(error)), "done": step.done})
    return _end(client, task, {"done": step.done})


def filter_of(action: LettersAction) -> Filter:
    """The dead-letter filter of an action in the configuration.

    Raises:
        InvalidArgumentError: an age, a reason or a regular expression is invalid.
    """
    found = Filter(
        names=tuple(action.lists),
        error=action.error,
        where=action.where,
        reason=action.reason,
        older_s=parse_age(action.older) if action.older else None,
        newer_s=parse_age(action.newer) if action.newer else None,
    )
    found.check()
    return found


def _steps(client: Client, task: Task) -> Any:
    schedule = task.schedule
    if schedule.find is not None:
        return _found(task, schedule.find)
    action = cast("LettersAction", schedule.requeue or schedule.purge)
    move = dead_letter_moves.requeue if schedule.requeue is not None else dead_letter_moves.purge
    # The cursor of a requeue or purge is the number of moved letters.
    done = int(task.cursor.partition(" ")[0] or 0)
    if 0 < action.limit <= done:
        return iter([Step(done, task.cursor)])
    left = action.limit - done if action.limit else 0
    actor = f"schedule {task.name}"
    return _moved(move(client, filter_of(action), limit=left, actor=actor), done)


def _moved(progress: Any, before: int) -> Iterator[Step]:
    with closing(progress):
        for one in progress:
            yield Step(before + one.done, str(before + one.done))


def _found(task: Task, action: FindAction) -> Iterator[Step]:
    """Yield a step for each page that the storage finds, beginning after the cursor of the task.

    The cursor of a query is the number of found vCons and, if there may be more, the storage's
    cursor.
    """
    count_text, has_more, cursor = task.cursor.partition(" ")
    count = int(count_text or 0)
    yield Step(count, task.cursor)
    if task.cursor and not has_more:
        return  # an earlier host pushed the last page, but did not end the run
    with StorageReader(task.config) as reader:
        while count < action.limit:
            limit = min(PAGE, action.limit - count)
            try:
                page = reader.find(action.storage, action.query, limit, cursor)
            except ValueError as error:
                raise OperationError(f"{action.storage}: {error}", "invalid") from None
            except Exception as error:
                what = f"{action.storage} does not answer the query: {error}"
                raise OperationError(redact_text(what), "unavailable") from error
            count, cursor = count + len(page.uuids), page.cursor
            told = f"{count} {cursor}" if cursor else str(count)
            yield Step(count, told, tuple(page.uuids))
            if not cursor:
                return


def _tend(client: Client, task: Task, step: Step, lease_s: float = LEASE_S) -> None:
    find = task.schedule.find
    call = schedules.tend(
        task.name,
        task.run,
        _now_ms(client),
        lease_ms=int(lease_s * 1000),
        cursor=step.cursor,
        list_name=find.list if find is not None else "",
        payloads=step.uuids,
    )
    _check(script.run(client, call))


def _end(client: Client, task: Task, result: Mapping[str, Any]) -> int:
    call = schedules.tend(task.name, task.run, _now_ms(client), lease_ms=0, result=result)
    _check(script.run(client, call))
    if "error" in result:
        log.get_logger().warning("schedule_run_failed", schedule=task.name, **result)
    else:
        log.get_logger().info("schedule_run_ended", schedule=task.name, **result)
    return 0


def _check(answer: list[bytes]) -> None:
    match [part.decode() for part in answer]:
        case ["lost"]:
            raise LostError("another host has taken the run over")
        case ["type", key, kind]:
            raise OperationError(f"{key} is a {kind} in Redis", "conflict")


def _now_ms(client: Client) -> float:
    seconds, micros = client.time()
    return float(seconds * 1000 + micros / 1000)
