"""Wakes requests that wait for changes of a job, by one Redis subscription for the whole process.

One connection is subscribed to the channels of all jobs that a request follows. A request gets an
asyncio.Event, not the messages: after any number of changes a slow request finds the event set,
reads the present state of the job, and delays no other request.

While Redis is away, all events are set now and then, so that the requests try to read the job.
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
"""The pause before the next connection to Redis after an error."""

LISTENERS_MAX = 5000
"""The most open streams and long polls of one process. Further clients have to poll."""


class TooManyListenersError(Exception):
    """LISTENERS_MAX requests wait in this process already."""


class Subscriptions:
    """The channels to which this process is subscribed, and the requests that listen to each."""

    def __init__(self, connect: Callable[[], redis.asyncio.Redis]) -> None:
        """connect: makes a client that sets no timeout for reads."""
        self._connect = connect
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._confirmed: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._log = log.get_logger()
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        """How many requests listen now."""
        return sum(map(len, self._listeners.values()))

    @property
    def limit(self) -> int:
        """How many requests may listen at once."""
        return LISTENERS_MAX

    @property
    def closing(self) -> bool:
        """Whether streams have to end, because the process stops."""
        return self._closing.is_set()

    @contextlib.asynccontextmanager
    async def listen(self, job: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set at every change of the job. The caller clears it.

        The event is also set once Redis has confirmed the subscription, or at once if it has done
        so for another request, so that the caller reads the job again: it may have changed since
        the caller's last reading.

        Raises:
            TooManyListenersError: LISTENERS_MAX requests listen already.
        """
        if len(self) >= LISTENERS_MAX:
            raise TooManyListenersError
        event = asyncio.Event()
        if job in self._confirmed:
            event.set()
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
        """Wake every listener, so that its stream ends."""
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
        """Subscribe and unsubscribe as listeners come and go, and set events at messages."""
        channels: dict[str, str] = {}  # channel -> job
        reader: asyncio.Task[Any] | None = None
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            while True:
                wanted = {keys.events(job): job for job in self._listeners}
                if gone := channels.keys() - wanted.keys():
                    self._confirmed.difference_update(channels[channel] for channel in gone)
                    await pubsub.unsubscribe(*gone)
                if new := wanted.keys() - channels.keys():
                    await pubsub.subscribe(*new)
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
                    if message:
                        self._heard(message["type"], channels.get(message["channel"].decode(), ""))
        finally:
            self._confirmed.clear()
            for task in (reader, changed):
                if task is not None:
                    task.cancel()

    def _heard(self, kind: str, job: str) -> None:
        """Wake those who listen to the job. A confirmation wakes them too, and not the sending of
        the subscription: Redis may answer a listener, who reads on another connection, before it
        subscribes us.
        """
        if kind == "subscribe" and job:
            self._confirmed.add(job)
        if kind in ("subscribe", "message"):
            self._wake(job)
