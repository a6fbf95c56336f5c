"""What a service manager is told by `conserver run` (sd_notify(3)), on a socket of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.daemon import Daemon, push, vcon
from tests.helpers import eventually, free_port
from tests.process.items import runs
from tests.process.test_daemon import trouble

Told = Callable[[], list[str]]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where it listens; never blocks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


@pytest.fixture
def told(manager: socket.socket) -> Told:
    """Everything that it was told so far, line by line."""
    lines: list[str] = []

    def read() -> list[str]:
        while True:
            try:
                lines.extend(manager.recv(4096).decode().splitlines())
            except BlockingIOError:
                return lines

    return read


def test_it_is_told_of_the_start_of_life_and_of_the_stop(
    manager: socket.socket, told: Told, redis_url: str, tmp_path: Path, client: redis.Redis
) -> None:
    gate = tmp_path / "gate"
    daemon = Daemon(
        tmp_path / "host",
        redis_url,
        trouble(redis_url),
        "fork",
        2,
        NOTIFY_SOCKET=str(manager.getsockname()),
        WATCHDOG_USEC="1000000",
        CONSERVER_API_PORT=str(free_port()),
    )
    with daemon:
        eventually(lambda: "READY=1" in told())
        roles = {str(line["child"]).split()[0] for line in daemon.events("child_ready")}
        assert roles == {"coordinator", "worker", "api"}, "not before each of them is ready"
        beats = told().count("WATCHDOG=1")
        eventually(lambda: told().count("WATCHDOG=1") >= beats + 5)
        [uuid] = push(client, "in", [vcon(subject=f"gate:{gate}")])
        daemon.until(lambda: runs(client, uuid) == 1)
        assert "STOPPING=1" not in told()
        daemon.signal(15)
        eventually(lambda: "STOPPING=1" in told())
        beats = told().count("WATCHDOG=1")
        eventually(
            lambda: told().count("WATCHDOG=1") >= beats + 3, message="it lives while it drains"
        )
        gate.touch()
        assert daemon.wait() == 0
    assert told().count("READY=1") == 1
    assert told().count("STOPPING=1") == 1


def test_a_manager_that_is_gone_or_not_meant_stops_nothing(
    redis_url: str, tmp_path: Path, manager: socket.socket, told: Told
) -> None:
    for number, variables in enumerate(
        [
            {"NOTIFY_SOCKET": str(tmp_path / "nobody")},
            {"NOTIFY_SOCKET": "@conserver-nobody-listens"},
            {
                "NOTIFY_SOCKET": str(manager.getsockname()),
                "WATCHDOG_USEC": "1000",
                "WATCHDOG_PID": "1",
            },
        ]
    ):
        folder = tmp_path / f"host-{number}"
        with Daemon(folder, redis_url, trouble(redis_url), "fork", 1, **variables) as daemon:
            assert daemon.stop() == 0
    assert "WATCHDOG=1" not in told(), "it was meant for another process"
    assert "READY=1" in told()
