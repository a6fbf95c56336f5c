"""What every route of the API works with: settings, configuration, Redis, tokens, subscribers.

Made once per process, in the application's lifespan. Routes get it through `context_of`.
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
"""How many threads wait at once for a bucket of uploads."""
ROOM_BYTES = 32 << 20
HANDED_OVER_MAX = 16


class Room:
    """Memory for the files of requests, as much as this process gives to all of them together."""

    def __init__(self, most_bytes: int = ROOM_BYTES) -> None:
        self._left_bytes = most_bytes

    def take(self, size: int) -> bool:
        """Occupy so many bytes. False: there are not so many left, and none was occupied."""
        if size > self._left_bytes:
            return False
        self._left_bytes -= size
        return True

    def give(self, size: int) -> None:
        """Free so many bytes."""
        self._left_bytes += size


@dataclass
class Context:
    """The application's state. It holds nothing that another replica would need."""

    settings: Settings
    config: Config
    keyring: Keyring
    redis: redis.asyncio.Redis
    """For everything else that does not block; answers are bytes."""
    shared: Multiplexed
    """For short commands of every request."""
    subscriptions: Subscriptions
    """Changes of jobs, as they are published."""
    uploads: Store
    storages: StorageReader
    """For reading; any thread may use it."""
    pool: Any
    """Connections of the blocking client that operations work with, in the threads of routes."""
    host: str = ""
    """The id of the supervisor that this process belongs to; "" where it runs alone."""
    statuses: Sequence[SharedStatus] = ()
    """The shared statuses of the processes that /metrics tells of; its own first."""
    operations: Operations = field(init=False)
    """Those that this process runs in the background."""
    room: Room = field(default_factory=Room)
    handing_over: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(HANDED_OVER_MAX)
    )
    """Held while the file of a form becomes a vCon and goes to Redis: in several copies."""
    _transfers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_TRANSFERS_MAX, "uploads")
    )

    def __post_init__(self) -> None:
        self.operations = Operations(
            self.client, tuple(self.config.ingress), self.settings.orphan_expiry_s
        )

    @property
    def is_open(self) -> bool:
        """Whether requests need no token: none is configured. Then it serves loopback only, unless
        CONSERVER_API_OPEN says otherwise.
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

    async def transfer(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call what may move a whole recording, in threads that nothing else waits for."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._transfers, partial(call, *args, **kwargs))

    async def close(self) -> None:
        """Give all connections back."""
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
    """A context with connections that are made when they are first used."""
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
