"""The true command, `conserver run`, as an operator sees it: its processes, its log, its lists.

A Daemon is one host. It is started with a configuration and an environment, watched through its log
lines and through Redis, and disturbed with signals. It is always stopped, and leaves no process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import orjson
import redis
import yaml
from servers.tree import await_stop

from tests.helpers import LONG_S, eventually

Event = dict[str, Any]
Result = TypeVar("Result")

PATIENCE = 4


class Daemon:
    """One `conserver run` with everything that belongs to it."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        config: Mapping[str, Any] | str,
        method: str = "",
        workers: int = 1,
        **environment: str,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file = folder / "config.yml"
        self.log_file = folder / "log.jsonl"
        self.write_config(config)
        self._environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "CONSERVER_CONFIG_FILE": str(self.config_file),
            "CONSERVER_START_METHOD": method,
            "CONSERVER_WORKERS": str(workers),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1])]),
            "HF_HUB_OFFLINE": "1",
            **environment,
        }
        self.workers = workers
        self.process: subprocess.Popen[bytes] | None = None
        self._lines: list[Event] = []
        self._read_bytes = 0

    def write_config(self, config: Mapping[str, Any] | str) -> None:
        """Replace the configuration file."""
        text = config if isinstance(config, str) else yaml.safe_dump(dict(config))
        self.config_file.write_text(text)

    def launch(self) -> Self:
        """Start it, in a process group of its own, without waiting for anything."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "conserver", "run"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def start(self) -> Self:
        """Start it and wait until every child is ready."""
        ready = len(self.events("child_ready"))
        self.launch()
        wanted = ready + self.workers + 1
        self.until(lambda: len(self.events("child_ready")) >= wanted, 30)
        return self

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.destroy()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.destroy()

    # What it is doing

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self.process is not None
        return self.process.pid

    def pids(self, title: str = "") -> list[int]:
        """Its living processes whose title begins with `conserver: <title>`, oldest first."""
        found = []
        for pid in self.everybody():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if words.lstrip().startswith(f"conserver: {title}".encode()):
                found.append(pid)
        return sorted(found)

    def worker(self, slot: int = 1) -> int:
        """The pid of one worker."""
        pids = self.until(lambda: self.pids(f"worker {slot} "))
        return pids[0]

    @property
    def coordinator(self) -> int:
        """The coordinator's pid."""
        pids = self.until(lambda: self.pids("coordinator"))
        return pids[0]

    def lines(self) -> list[Event]:
        """Everything it has logged that is JSON. Each line is read once, when it is whole."""
        if self.log_file.exists():
            with self.log_file.open("rb") as log:
                log.seek(self._read_bytes)
                whole, end, _ = log.read().rpartition(b"\n")
            self._read_bytes += len(whole) + len(end)
            for line in whole.splitlines():
                with contextlib.suppress(ValueError):
                    self._lines.append(json.loads(line))
        return list(self._lines)

    def events(self, name: str, **fields: object) -> list[Event]:
        """Its log lines of one event, with these fields."""
        return [
            line
            for line in self.lines()
            if line.get("event") == name
            and all(line.get(key) == value for key, value in fields.items())
        ]

    def event(self, name: str, timeout_s: float = LONG_S, **fields: object) -> Event:
        """The first such line, as soon as there is one."""
        return self.until(lambda: self.events(name, **fields), timeout_s)[0]

    def until(self, predicate: Callable[[], Result], timeout_s: float = LONG_S) -> Result:
        """Wait for a condition; when the time is over, fail with the end of the log.

        `timeout_s` is what a quiet machine may take at most; a busy one is given more.
        """
        try:
            return eventually(predicate, timeout_s * PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from error

    def tail(self) -> str:
        """The end of its log, for the message of a failed wait."""
        text = self.log_file.read_text() if self.log_file.exists() else ""
        return "\n".join(line[:2000] for line in text.splitlines()[-25:])

    # What is done to it

    def signal(self, number: int, pid: int | None = None) -> None:
        """Send a signal to one process, the supervisor by default. SIGSTOP has taken effect.

        A process that is to be killed may have ended by itself meanwhile, for instance because its
        supervisor was killed just before.
        """
        target = pid or self.pid
        try:
            os.kill(target, number)
        except ProcessLookupError:
            if number != signal.SIGKILL:
                raise
        if number == signal.SIGSTOP:
            await_stop(lambda: [target])

    def kill_group(self, number: int) -> None:
        """Send a signal to all of its processes, as a terminal or an init does."""
        os.killpg(self.pid, number)

    def pause(self) -> None:
        """Stop the whole host in time."""
        for pid in self.everybody():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        await_stop(self.everybody)

    def resume(self) -> None:
        """Let it go on."""
        for pid in self.everybody():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def everybody(self) -> list[int]:
        """All processes of its session, helpers of multiprocessing included.

        Tests ask every ten milliseconds: the kernel is asked for the session, which takes a tenth
        of what reading every process's files takes.
        """
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and os.getsid(int(folder.name)) == self.pid:
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    if state != "Z":
                        found.append(int(folder.name))
            except OSError:
                continue
        return found

    def wait(self, timeout_s: float = 30) -> int:
        """Wait for the supervisor's end. Answers its exit code."""
        assert self.process is not None
        return self.process.wait(timeout_s * PATIENCE)

    def stop(self, timeout_s: float = 30) -> int:
        """Ask it to end, and wait. Answers its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def destroy(self) -> None:
        """End all of it, whatever state it is in."""
        if self.process is None:
            return

        def gone() -> bool:
            self.kill_everybody()  # Again and again: what is just being started is not seen yet.
            return not self.everybody()

        eventually(gone)
        self.process.wait(LONG_S)

    def kill_everybody(self) -> None:
        """The host dies: kill -9 to every process at once."""
        for pid in self.everybody():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def vcon(identity: str | None = None, **members: Any) -> dict[str, Any]:
    """A small, complete vCon."""
    return {
        "vcon": "0.4.0",
        "uuid": identity or str(uuid.uuid4()),
        "created_at": "2026-11-01T10:00:00Z",
        "parties": [{"tel": "+12025550100", "name": "Ann"}, {"tel": "+12025550101"}],
        "dialog": [
            {
                "type": "text",
                "start": "2026-11-01T10:00:00Z",
                "parties": [0, 1],
                "mediatype": "text/plain",
                "body": "hello",
                "encoding": "none",
            }
        ],
        "analysis": [],
        "attachments": [],
        **members,
    }


def push(client: redis.Redis, name: str, documents: Iterable[dict[str, Any]]) -> list[str]:
    """Store documents and push their uuids, as a producer does. Answers the uuids."""
    uuids = []
    pipe = client.pipeline(transaction=False)
    for document in documents:
        pipe.set(f"vcon:{document['uuid']}", orjson.dumps(document))
        pipe.rpush(name, document["uuid"])
        uuids.append(document["uuid"])
    pipe.execute()
    return uuids


def elements(client: redis.Redis, name: str) -> list[str]:
    """A list, as text."""
    return [element.decode() for element in cast("list[bytes]", client.lrange(name, 0, -1))]


def reasons(client: Any, name: str) -> list[Event]:
    """Why the dead letters of a list died, the oldest first."""
    members: list[bytes] = client.zrange(f"conserver:dead:{name}", 0, -1)
    return [orjson.loads(member.partition(b"\n")[0]) for member in members]
