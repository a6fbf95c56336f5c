"""Fires the schedules of the configuration when they are due, each time on one host only.

Every coordinator calls fire.lua for each schedule, by Redis's clock. The script lets only the first
host fire a due time. It does a push itself. For longer actions the coordinator starts a child
process (schedule_run.py), which stores the progress of the run in Redis. If the host of a run dies,
another host takes over the run when the lease of the run is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import orjson

from conserver.queue import schedules
from conserver.queue.schedules import EXIT_GIVEN_UP, LEASE_S
from conserver.queue.wrong_type import WrongTypeError

if TYPE_CHECKING:
    from conserver.config.model import Config
    from conserver.config.schedules import ScheduleConfig
    from conserver.config.settings import Settings
    from conserver.coordinator.connections import AsyncRetryingConnection
    from conserver.operations.scheduled import Task
    from conserver.telemetry.log import Logger

LOOK_EVERY_S = 2.0
"""The longest pause between two looks: a run that an operator asked for begins within this time."""

LATE_S = 60.0
"""A due time that is fired later than this is logged as caught up."""

END_TIMEOUT_S = 5.0
_MAIN = "from conserver.coordinator.schedule_run import main; main()"


class Schedules:
    """The schedules of one host's configuration, and the runs that this host does."""

    def __init__(
        self,
        redis: AsyncRetryingConnection,
        host: str,
        config: Config,
        settings: Settings,
        log: Logger,
    ) -> None:
        self._redis = redis
        self._host = host
        self._config = config
        self._settings = settings
        self._log = log
        self._times: dict[str, tuple[int, int]] = {}
        """schedule -> its latest and its next due time, in ms: cron is asked once per due time."""
        self._runs: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Fire schedules when they are due, until cancelled; then give up the runs of this host."""
        wanted = self._config.enabled_schedules
        try:
            while wanted:
                now_ms = await self._now_ms()
                for name, schedule in wanted.items():
                    with contextlib.suppress(WrongTypeError):
                        await self.look(name, schedule, now_ms)
                soonest_s = (min(next_ms for _, next_ms in self._times.values()) - now_ms) / 1000
                await asyncio.sleep(min(max(soonest_s, 0.01), LOOK_EVERY_S))
        finally:
            for task in self._runs.values():
                task.cancel()
            await asyncio.gather(*self._runs.values(), return_exceptions=True)

    async def look(self, name: str, schedule: ScheduleConfig, now_ms: float) -> None:
        """Fire one schedule, if it is due. Raises WrongTypeError."""
        push, time_ms = schedule.push, self._latest_ms(name, schedule, now_ms)
        payloads = push.payloads if push is not None else []
        answer = await self._redis.call(
            schedules.fire(
                name,
                schedule.definition,
                time_ms,
                now_ms,
                catch_up_ms=schedule.catch_up_s * 1000,
                host=self._host,
                lease_ms=0 if push is not None else int(LEASE_S * 1000),
                list_name=push.list if push is not None else "",
                payloads=[one if isinstance(one, str) else orjson.dumps(one) for one in payloads],
            )
        )
        match [part.decode() for part in answer]:
            case ["pushed", time, before]:
                self._tell(name, schedule, int(time), int(before), now_ms)
            case ["run", run, cursor, time, before]:
                if before:
                    self._tell(name, schedule, int(time), int(before), now_ms)
                else:
                    self._log.warning("schedule_run_taken_over", schedule=name, run=run)
                self._start(name, run, cursor)
            case ["busy", *_]:
                what = "its last run goes on: this time is passed over"
                self._log.warning("schedule_passed_over", schedule=name, what=what)
            case ["missed", time, before]:
                late_s = round((now_ms - int(time)) / 1000)
                missed = schedule.missed(int(before), now_ms)
                self._log.warning("schedule_missed", schedule=name, late_s=late_s, missed=missed)
            case ["type", key, kind]:
                what = f"{key} is a {kind} in Redis: nothing was pushed"
                self._log.warning("schedule_cannot_push", schedule=name, what=what)

    def _latest_ms(self, name: str, schedule: ScheduleConfig, now_ms: float) -> int:
        latest_ms, next_ms = self._times.get(name, (0, 0))
        if not latest_ms <= now_ms < next_ms:  # or Redis's clock was put back
            latest_ms, next_ms = schedule.latest_ms(now_ms), schedule.next_ms(now_ms)
            self._times[name] = (latest_ms, next_ms)
        return latest_ms

    def _tell(
        self, name: str, schedule: ScheduleConfig, time_ms: int, before_ms: int, now_ms: float
    ) -> None:
        late_s = round((now_ms - time_ms) / 1000)
        if late_s > LATE_S:
            missed = schedule.missed(before_ms, now_ms)
            self._log.warning("schedule_caught_up", schedule=name, late_s=late_s, missed=missed)
        else:
            what = schedule.action
            self._log.info("schedule_fired", schedule=name, action=what, due_ms=time_ms)

    def _start(self, name: str, run: str, cursor: str) -> None:
        # Imported here: most coordinators never need it.
        from conserver.operations.scheduled import Task

        task = Task(name, run, cursor, self._config, self._settings)
        doing = asyncio.create_task(self._carry_out(task), name=f"schedule {task.name}")
        self._runs[task.name] = doing
        doing.add_done_callback(lambda _: self._runs.pop(task.name, None))

    async def _carry_out(self, task: Task) -> None:
        """Run the child process of a task. If this is cancelled, the child gives up the run."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _MAIN, stdin=asyncio.subprocess.PIPE, env=_environment(os.environ)
        )
        assert process.stdin is not None
        try:
            # The pipe stays open: its end tells the child that the coordinator is gone.
            process.stdin.write(pickle.dumps(task))
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.stdin.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(END_TIMEOUT_S):
                        await process.wait()
            if process.returncode is None:
                process.kill()
        if code not in (0, EXIT_GIVEN_UP):
            self._log.error("schedule_process_died", schedule=task.name, exit_code=code)

    async def _now_ms(self) -> float:
        seconds, micros = await self._redis.command("TIME")
        return int(seconds) * 1000 + int(micros) / 1000


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with which the child process finds the same modules as this one."""
    return {**environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
