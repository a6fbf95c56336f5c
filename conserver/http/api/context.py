"""The Context that every route uses: settings, configuration, Redis, tokens, subscriptions.

http/server.py makes one per process. Routes get it by `context_of`; the application closes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from starlette.requests import HTTPConnection

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.http.api.multiplexed import Multiplexed
from conserver.http.api.subscriptions import Subscriptions
from conserver.operations import items, jobs, lists
from conserver.operations.background import Operations
from conserver.operations.documents import StorageReader
from conserver.operations.tokens import Keyring
from conserver.outbound import upload_store
from conserver.outbound.uploads import Store
from conserver.queue import clients

if TYPE_CHECKING:
    import redis.asyncio
    from redis import Redis

    from conserver.process.shared_status import SharedStatus


P = ParamSpec("P")
R = TypeVar("R")
_TRANSFERS_MAX = 32
"""How many threads move recordings to and from the store of uploads at once."""
ROOM_BYTES = 32 << 20
HANDED_OVER_MAX = 16


class Room:
    """Limits the memory that the files of all requests in this process occupy together."""

    def __init__(self, most_bytes: int = ROOM_BYTES) -> None:
        self._left_bytes = most_bytes

    def take(self, size: int) -> bool:
        """Occupy `size` bytes. False: fewer bytes are free, and none were occupied."""
        if size > self._left_bytes:
            return False
        self._left_bytes -= size
        return True

    def give(self, size: int) -> None:
        """Free `size` bytes."""
        self._left_bytes += size


@dataclass
class Context:
    """The state of this process. No other replica needs anything of it."""

    settings: Settings
    config: Config
    keyring: Keyring
    redis: redis.asyncio.Redis
    """For asynchronous commands that cannot share a connection; answers are bytes."""
    shared: Multiplexed
    """For the short commands of requests, all over one connection."""
    subscriptions: Subscriptions
    """Hands the published changes of jobs to the requests that wait for them."""
    uploads: Store
    storages: StorageReader
    """The storages, for reading; any thread may use them."""
    pool: Any
    """Connections of the blocking clients that operations use in the threads of routes."""
    host: str = ""
    """The id of the host whose supervisor started this process; "" for `conserver api`."""
    statuses: Sequence[SharedStatus] = ()
    """The shared statuses of the processes whose series /metrics shows; this process's first."""
    operations: Operations = field(init=False)
    """The operations that this process runs in the background."""
    room: Room = field(default_factory=Room)
    handing_over: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(HANDED_OVER_MAX)
    )
    """Held while the file of a form becomes a vCon and goes to Redis, because memory then holds
    several copies of it.
    """
    _transfers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_TRANSFERS_MAX, "uploads")
    )

    def __post_init__(self) -> None:
        self.operations = Operations(
            self.client, tuple(self.config.ingress), self.settings.orphan_expiry_s
        )

    @property
    def is_open(self) -> bool:
        """Whether no token is configured, so requests need none. Then the API serves loopback only,
        unless CONSERVER_API_OPEN is true.
        """
        return self.keyring.is_open

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """A blocking client for one operation. Threads may share it: each command takes a
        connection out of the pool, and gives it back.
        """
        yield self._client

    @cached_property
    def _client(self) -> Redis:
        from redis import Redis

        return Redis(connection_pool=self.pool)

    def pause(self, name: str, actor: str) -> None:
        """Pause a list; see lists.pause."""
        lists.pause(self._client, [name], actor=actor, configured=self.config.ingress)

    def resume(self, name: str, actor: str) -> bool:
        """Resume a list; see lists.resume. Returns whether it was paused."""
        configured = self.config.ingress
        return bool(lists.resume(self._client, [name], actor=actor, configured=configured).resumed)

    def cancel_vcon(self, uuid: str, actor: str) -> items.Cancelled:
        """Cancel all items of a vCon; see items.cancel."""
        configured, keep_s = self.config.ingress, self.settings.orphan_expiry_s
        return items.cancel(self._client, uuid, actor=actor, configured=configured, keep_s=keep_s)

    def cancel_job(self, job: str, actor: str) -> None:
        """Cancel a job; see jobs.cancel."""
        configured, keep_s = self.config.ingress, self.settings.orphan_expiry_s
        jobs.cancel(self._client, job, actor=actor, configured=configured, keep_s=keep_s)

    async def transfer(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call that may move a whole recording, in a thread pool used for nothing else."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._transfers, partial(call, *args, **kwargs))

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.to_thread(self.operations.close)
        await self.subscriptions.close()
        await self.shared.close()
        await self.redis.aclose()
        self.storages.close()
        self.pool.disconnect()
        await asyncio.to_thread(self._transfers.shutdown)
        self.uploads.close()


def make(
    settings: Settings,
    config: Config,
    keyring: Keyring,
    host: str = "",
    statuses: Sequence[SharedStatus] = (),
) -> Context:
    """A context. Its connections are opened at their first use."""
    url = settings.redis_url.get_secret_value()
    client = clients.async_client(url)
    return Context(
        settings=settings,
        config=config,
        keyring=keyring,
        redis=client,
        shared=Multiplexed(clients.async_client(url, None)),
        subscriptions=Subscriptions(lambda: clients.async_client(url, None)),
        uploads=upload_store.configured(
            settings.upload_dir,
            settings.upload_bucket,
            settings.upload_endpoint_url,
            settings.upload_public_url,
        ),
        storages=StorageReader(config),
        pool=clients.pool(url),
        host=host,
        statuses=statuses,
    )


def context_of(request: HTTPConnection) -> Context:
    """The context of the application that serves a request."""
    context: Context = request.app.state.context
    return context
