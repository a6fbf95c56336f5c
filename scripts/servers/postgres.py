"""PostgreSQL, with a superuser `postgres` that needs no password from this machine."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from servers.base import Image, Plan, Server, ServerFailed
from servers.packages import postgres_folder
from servers.process import as_user, give

_ANSWER_TIMEOUT_S = 1
_INITDB_TIMEOUT_S = 120
_IN_CONTAINER_PORT = 5432
_PROTOCOL_VERSION = 196_608
# A test's data need not survive the machine, only the server's own death: no fsync.
_DEFAULTS = {"fsync": "off", "shared_buffers": "32MB", "max_connections": "200"}


class Postgres(Server):
    """A PostgreSQL cluster of its own. `options` are the server's own: {"fsync": "on"}."""

    kind = "postgres"
    start_timeout_s = 90

    def __init__(
        self,
        options: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        folder: Path | None = None,
        outlive: bool = False,
    ) -> None:
        super().__init__(port=port, folder=folder, outlive=outlive)
        self.options = _DEFAULTS | dict(options or {})

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def plan(self) -> Plan:
        programs = postgres_folder()
        user = _user()
        data = self.folder / "data"
        if not data.exists():
            self._make_cluster(programs, data, user)
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        # SIGINT is its fast shutdown: it does not wait for clients to leave.
        return Plan(command + self._arguments(), user=user, stop_signal=signal.SIGINT)

    def image(self) -> Image:
        environment = {"POSTGRES_HOST_AUTH_METHOD": "trust"}
        return Image("postgres:16-alpine", _IN_CONTAINER_PORT, self._arguments(), environment)

    def answers(self) -> bool:
        """A startup message is answered by R (go on) once it accepts connections, by E before."""
        body = struct.pack("!i", _PROTOCOL_VERSION) + b"user\0postgres\0database\0postgres\0\0"
        try:
            address = ("127.0.0.1", self.port)
            with socket.create_connection(address, timeout=_ANSWER_TIMEOUT_S) as connection:
                connection.sendall(struct.pack("!i", len(body) + 4) + body)
                first = connection.recv(1)
                connection.sendall(b"X" + struct.pack("!i", 4))
        except OSError:
            return False
        return first == b"R"

    def _make_cluster(self, programs: Path, data: Path, user: str | None) -> None:
        data.mkdir(mode=0o700)
        if user is not None:
            give(data, user)
        command = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions"]
        done = subprocess.run(
            [*as_user(user), *command],
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=_INITDB_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _arguments(self) -> list[str]:
        pairs = self.options.items()
        return [word for name, value in pairs for word in ("-c", f"{name}={value}")]


def _user() -> str | None:
    """PostgreSQL refuses root: Debian's package brings a user for it."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
