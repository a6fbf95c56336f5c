"""Who waits for changes of a job: one subscription to Redis for all of them.

A process has one connection that is subscribed to the channels of those jobs that somebody
follows. A listener gets a flag, not the messages: however many changes there are, a reader that is
slow finds one flag set, reads the job as it is then, and holds back nobody.

Where Redis is away, listeners are woken now and then, so that they look for themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from conserver.queue import keys
from conserver.telemetry import log

if TYPE_CHECKING:
    import redis.asyncio

PAUSE_S = 1.0
"""How long to wait before Redis is asked again after an error."""

LISTENERS_MAX = 5000
"""Open streams and long polls of one process; beyond that a client is told to poll."""


class TooManyListenersError(Exception):
    """No more can follow here."""


class Subscriptions:
    """The channels that this process is subscribed to, and who listens to each."""

    def __init__(self, connect: Callable[[], redis.asyncio.Redis]) -> None:
        """connect: makes a client whose reads may block for as long as they like."""
        self._connect = connect
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._log = log.get_logger()
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        """How many listen now."""
        return sum(map(len, self._listeners.values()))

    @property
    def limit(self) -> int:
        """How many may listen at once."""
        return LISTENERS_MAX

    @property
    def closing(self) -> bool:
        """Whether streams are to end: the process stops."""
        return self._closing.is_set()

    @contextlib.asynccontextmanager
    async def listen(self, job: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at every change of the job; whoever waits clears it.

        It is set once the subscription stands, so that a change between a look at the job and the
        subscription is not missed.

        Raises:
            TooManyListenersError: there are LISTENERS_MAX already.
        """
        if len(self) >= LISTENERS_MAX:
            raise TooManyListenersError
        event = asyncio.Event()
        self._listeners.setdefault(job, set()).add(event)
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="subscriptions")
        try:
            yield event
        finally:
            listeners = self._listeners[job]
            listeners.discard(event)
            if not listeners:
                del self._listeners[job]
                self._changed.set()

    def begin_closing(self) -> None:
        """Let every stream end."""
        self._closing.set()
        self._wake_all()

    async def close(self) -> None:
        """End the subscription."""
        self.begin_closing()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _wake(self, job: str) -> None:
        for event in self._listeners.get(job, ()):
            event.set()

    def _wake_all(self) -> None:
        for job in self._listeners:
            self._wake(job)

    async def _run(self) -> None:
        from redis.exceptions import RedisError

        while True:
            client = self._connect()
            try:
                async with client.pubsub() as pubsub:
                    await self._serve(pubsub)
            except (RedisError, OSError) as error:
                self._log.warning("subscription_lost", error=str(error))
                self._wake_all()
                await asyncio.sleep(PAUSE_S)
            finally:
                await client.aclose()

    async def _serve(self, pubsub: Any) -> None:
        """Keep the channels as they are wanted, and pass on what comes."""
        channels: dict[str, str] = {}  # channel -> job
        reader: asyncio.Task[Any] | None = None
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            while True:
                wanted = {keys.events(job): job for job in self._listeners}
                if gone := channels.keys() - wanted.keys():
                    await pubsub.unsubscribe(*gone)
                if new := wanted.keys() - channels.keys():
                    await pubsub.subscribe(*new)
                    for channel in new:
                        self._wake(wanted[channel])
                channels = wanted
                self._changed.clear()
                if reader is None and channels:
                    reader = asyncio.ensure_future(
                        pubsub.get_message(ignore_subscribe_messages=False, timeout=None)
                    )
                waiting = {task for task in (reader, changed) if task is not None}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if changed.done():
                    changed = asyncio.ensure_future(self._changed.wait())
                if reader is not None and reader.done():
                    message = reader.result()
                    reader = None
                    if message and message["type"] == "message":
                        self._wake(channels.get(message["channel"].decode(), ""))
        finally:
            for task in (reader, changed):
                if task is not None:
                    task.cancel()
