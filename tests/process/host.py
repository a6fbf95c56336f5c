"""A supervisor process with tiny children (children.py), and what a test can see of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.helpers import LONG_S, eventually
from tests.process.children import Scenario, complete_lines

ROOT = Path(__file__).parents[2]
Event = dict[str, Any]

SOON_S = 20.0
"""An upper bound for "at once" on a busy machine; it only excludes that a timeout has passed."""


class Host:
    """One supervisor, the journal of its children, and its log."""

    def __init__(self, folder: Path, method: str) -> None:
        self.folder = folder
        self._method = method
        self._scenario = Scenario()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, scenario: Scenario, workers: int = 1, redirect: str = "") -> Host:
        """Start the supervisor in its own process group, without waiting for its children.

        redirect: shell redirections of its descriptors.
        """
        settings = {"start_method": self._method, "workers": workers, **scenario.settings}
        self._scenario = replace(scenario, settings=settings)
        self._scenario.write(self.folder)
        command = [sys.executable, "-m", "tests.process.children", str(self.folder)]
        with (self.folder / "log.jsonl").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *command],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def rewrite(self, scenario: Scenario) -> None:
        """Replace the scenario that the next reload reads."""
        replace(scenario, settings=self._scenario.settings).write(self.folder)

    @property
    def pid(self) -> int:
        """The supervisor's pid."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Send the supervisor and all processes below it a signal."""
        os.killpg(self.pid, number)

    def wait(self, timeout_s: float = LONG_S) -> int:
        """Wait until the supervisor has exited. Returns its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def events(self, who: str = "", event: str = "") -> list[Event]:
        """The journal, or its lines of one child or one kind of event."""
        return [
            line
            for line in complete_lines(self.folder / "journal.jsonl")
            if line["who"].startswith(who) and line["event"].startswith(event)
        ]

    def starts(self, who: str) -> list[Event]:
        """Every start of a child in this slot."""
        return self.events(who, "started")

    def received(self, kind: str) -> list[Event]:
        """The messages of this type that coordinators have received."""
        messages = [event["message"] for event in self.events("coordinator", "received")]
        return [message for message in messages if message["type"] == kind]

    def log(self, event: str = "") -> list[Event]:
        """The supervisor's log, or its lines of one event."""
        return [
            line
            for line in complete_lines(self.folder / "log.jsonl")
            if event in ("", line["event"])
        ]

    def until_ready(self, children: int = 2) -> None:
        """Wait until so many children have reported that they are ready."""
        eventually(lambda: len(self.log("child_ready")) >= children, message="children ready")

    def until_started(self, who: str, times: int, timeout_s: float = LONG_S) -> Event:
        """Wait for the n-th child in this slot."""
        eventually(
            lambda: len(self.starts(who)) >= times,
            timeout_s,
            message=f"{who} started {times} times",
        )
        return self.starts(who)[times - 1]

    def until(self, predicate: Callable[[], Any], timeout_s: float = LONG_S) -> Any:
        """Wait until the predicate holds, and show the log if it does not."""
        try:
            return eventually(predicate, timeout_s)
        except AssertionError as error:
            raise AssertionError((self.folder / "log.jsonl").read_text()) from error

    def pids(self) -> set[int]:
        """All processes of the supervisor's session, without zombies."""
        return {pid for pid in _every_pid() if _session(pid) == self.pid and alive(pid)}

    def end(self) -> None:
        """Kill whatever is left."""
        if self._process is None:
            return
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has exited meanwhile
        self._process.kill()
        self._process.wait(LONG_S)


@contextmanager
def new_host(folder: Path, method: str) -> Iterator[Host]:
    """A host whose processes are all killed at the end."""
    made = Host(folder, method)
    try:
        yield made
    finally:
        made.end()


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def title(pid: int) -> str:
    """The title of a process, as ps shows it."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def seconds_since(began_s: float) -> float:
    """The time since began_s, a time.monotonic()."""
    return time.monotonic() - began_s


def _every_pid() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
