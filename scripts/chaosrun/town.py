"""A town: Redis, storages, a proxy in front of each of them, and hosts that run the true daemon.

1. Starts its servers together, and the hosts, each of which reaches Redis through a proxy of its
   own, so that one host can be cut off while the others go on.
2. Says how the configuration names its storages.
3. Leaves no process behind, whatever state it was brought into.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from servers import Redis, start_all

from chaosrun.places import Place
from tests.daemon import Daemon
from tests.helpers import TcpProxy

# Every write is in the file before its answer is sent, so that not even a killed Redis forgets what
# it has answered; it would forget with the machine, which stays.
AOF = {"appendonly": "yes", "appendfsync": "no"}
ASK_TIMEOUT_S = 5.0
EXIT_WAIT_S = 5.0


class Host:
    """One `conserver run` with a proxy between it and Redis."""

    def __init__(self, folder: Path, server: Redis, config: Mapping[str, Any], **how: Any) -> None:
        """how: what Daemon takes: method, workers, and the environment."""
        self.name = folder.name
        self.proxy = TcpProxy(server.port)
        self.daemon = Daemon(folder, self.proxy.url(server.url), config, **how)

    @property
    def runs(self) -> bool:
        """Whether any process of it is left."""
        return self.daemon.process is not None and bool(self.daemon.everybody())

    @property
    def exit_code(self) -> int:
        """Of a supervisor that has ended."""
        assert self.daemon.process is not None
        return self.daemon.process.wait(EXIT_WAIT_S)

    def close(self) -> None:
        """End it, whatever state it is in."""
        self.daemon.destroy()
        self.proxy.close()


class Town:
    """Servers and hosts of one run."""

    def __init__(self, folder: Path, places: Iterable[Place], server: Redis | None = None) -> None:
        """The places' servers that run already are left running by `close`."""
        self.folder = folder
        self.redis = server or Redis(AOF)
        self.places = {place.name: place for place in places}
        self.proxies: dict[str, TcpProxy] = {}
        self.hosts: list[Host] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> None:
        fresh = [place for place in self.places.values() if not place.server.alive]
        for server in (self.redis, *(place.server for place in fresh)):
            self._stack.callback(server.close)
        start_all([self.redis, *(place.server for place in fresh)])
        for place in fresh:
            place.prepare()
        for name, place in self.places.items():
            self.proxies[name] = self._stack.enter_context(TcpProxy(place.server.port))

    def close(self) -> None:
        """End everything that was started here."""
        self._stack.close()

    def storages(self) -> dict[str, Any]:
        """The `storages` of a configuration."""
        return {n: place.config(self.proxies[n].port) for n, place in self.places.items()}

    def host(self, config: Mapping[str, Any], **how: Any) -> Host:
        """One more host, not started yet. how: method, workers, and the environment."""
        folder = self.folder / f"host-{len(self.hosts) + 1}"
        host = Host(folder, self.redis, config, **how)
        host.proxy.start()
        self._stack.callback(host.close)
        self.hosts.append(host)
        return host

    def client(self) -> redis.Redis:
        """A connection to Redis itself, with bounded waits and no repetitions of its own."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis.from_url(
            self.redis.url,
            socket_timeout=ASK_TIMEOUT_S,
            socket_connect_timeout=ASK_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
