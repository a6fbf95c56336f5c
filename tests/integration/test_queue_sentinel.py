"""The queue behind Redis Sentinel: a failover is waited out, and the new master is found."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from servers import Redis
from servers.base import Plan
from servers.packages import docker_works, redis_program

from conserver.queue import calls, host_calls
from conserver.queue import clients as connection
from conserver.queue.calls import Claim, Demand
from conserver.queue.retrying_connection import RetryingConnection
from tests.conftest import Private
from tests.helpers import eventually
from tests.queues import DEFAULT_LIMITS, opened

SERVICE = "main"


class Sentinel(Redis):
    """One sentinel that watches a master; it keeps its state in its own configuration file."""

    def __init__(self, master_port: int) -> None:
        super().__init__()
        self.master_port = master_port

    def plan(self) -> Plan:
        file = self.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.master_port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 60000\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        return Plan([str(redis_program()), str(file), "--sentinel"])


@dataclass
class Trio:
    """A master, its replica, and the sentinel that watches them."""

    master: Redis
    replica: Redis
    sentinel: Sentinel

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}"

    def master_port(self) -> int:
        answer = self.sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(answer.split(b"\r\n")[4])

    def fail_over(self) -> None:
        """Everything that was answered is on the replica, then the sentinel makes it the master."""
        with opened(self.master.url) as queue:
            queue.client.set("everything before this", "")  # WAIT is about one's own writes
            assert queue.client.wait(1, 30_000) == 1
        # It refuses until it has heard enough of the replica.
        eventually(lambda: self.sentinel.ask("SENTINEL", "FAILOVER", SERVICE)[:3] == b"+OK", 60)
        eventually(lambda: self.master_port() == self.replica.port, 60)
        # Until it knows, the old master takes what will be undone: see what strays are.
        eventually(self._old_master_knows, 60)

    def _old_master_knows(self) -> bool:
        """It drops its connections while it becomes a replica."""
        try:
            return b"slave" in self.master.ask("ROLE")
        except ConnectionResetError:
            return False


@pytest.fixture
def trio(private: Private) -> Trio:
    if docker_works():
        pytest.skip("a sentinel names addresses that are inside its container")
    master, replica = Redis(), Redis()
    private.all(master, replica)
    with opened(replica.url) as queue:
        queue.client.replicaof("127.0.0.1", str(master.port))
        eventually(lambda: queue.client.info("replication")["master_link_status"] == "up")
    made = Trio(master, replica, private(Sentinel(master.port)))
    eventually(lambda: b"num-slaves\r\n$1\r\n1" in made.sentinel.ask("SENTINEL", "MASTERS"), 60)
    return made


def claim(line: RetryingConnection, number: int) -> Claim:
    demand = [Demand("q", 1)]
    return calls.read_claim(
        line.call(calls.claim("h1", "c1", number, True, demand, DEFAULT_LIMITS))
    )


def test_a_worker_goes_on_with_the_new_master(trio: Trio) -> None:
    ticks: list[None] = []
    line = RetryingConnection(trio.url, lambda: ticks.append(None), structlog.get_logger())
    with closing(line):
        line.call(host_calls.register("h1", "c1", ["q"]))
        line.command("RPUSH", "q", "u1", "u2")
        assert [item.payload for item in claim(line, 1).items] == [b"u1"]
        trio.fail_over()
        assert [item.payload for item in claim(line, 2).items] == [b"u2"]
    with opened(trio.replica.url) as queue:
        assert queue.client.role()[0] == b"master"
        assert {item.payload for item in queue.held("c1")} == {b"u1", b"u2"}


def test_clients_find_the_new_master_too(trio: Trio) -> None:
    async def name_in_async() -> object:
        async with connection.async_client(trio.url) as client:
            found = await client.get("name")
            pool: Any = client.connection_pool
            for sentinel in pool.sentinel_manager.sentinels:
                await sentinel.aclose()
            return found

    with connection.client(trio.url) as client:
        client.set("name", "conserver")
        trio.fail_over()
    with connection.client(trio.url) as client:
        assert client.get("name") == b"conserver"
    assert asyncio.run(name_in_async()) == b"conserver"
