"""Redis (or Valkey)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from servers.base import Image, Plan, Server
from servers.packages import redis_program

_ANSWER_TIMEOUT_S = 0.5
_IN_CONTAINER_PORT = 6379


class Redis(Server):
    """A Redis that keeps nothing on disk unless its options say so.

    `options` are the server's own: {"appendonly": "yes", "maxmemory": "32mb"}. With
    {"save": "", "appendonly": "no"}, the default, a restart comes back empty.
    """

    kind = "redis"
    start_timeout_s = 60

    def __init__(
        self,
        options: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        folder: Path | None = None,
        outlive: bool = False,
    ) -> None:
        super().__init__(port=port, folder=folder, outlive=outlive)
        self.options = {"save": "", "appendonly": "no"} | dict(options or {})

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def plan(self) -> Plan:
        command = [str(redis_program()), "--port", str(self.port), "--bind", "127.0.0.1"]
        return Plan([*command, "--dir", str(self.folder), *self._arguments()])

    def image(self) -> Image:
        # The image's own protection would refuse what comes through the published port.
        arguments = ["redis-server", "--protected-mode", "no", *self._arguments()]
        return Image("redis:7.2-alpine", _IN_CONTAINER_PORT, arguments)

    def answers(self) -> bool:
        try:
            return self.ask("PING") in (b"+PONG\r\n", b"-NOAUTH Authentication required.\r\n")
        except OSError:
            return False

    def flush(self) -> None:
        """Empty it: all keys, scripts and functions."""
        for command in (("FLUSHALL", "SYNC"), ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH")):
            self.ask(*command)

    def ask(self, *command: str) -> bytes:
        """One command on a connection of its own, and the raw answer's beginning."""
        words = [word.encode() for word in command]
        frame = b"*%d\r\n" % len(words)
        frame += b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, timeout=_ANSWER_TIMEOUT_S) as connection:
            connection.sendall(frame)
            return connection.recv(4096)

    def _arguments(self) -> list[str]:
        return [word for name, value in self.options.items() for word in (f"--{name}", value)]
