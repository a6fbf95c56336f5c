"""A supervisor with tiny children (children.py) in a process of its own, as a test sees it."""

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

from tests.helpers import eventually
from tests.process.children import Scenario, complete_lines

ROOT = Path(__file__).parents[2]
Event = dict[str, Any]

SOON_S = 8.0
"""At once, on a machine that may be busy with other things: the time is measured in docs, not here;
this only tells it from a timeout."""


class House:
    """One supervisor, its journal and its log."""

    def __init__(self, folder: Path, method: str) -> None:
        self.folder = folder
        self._method = method
        self._scenario = Scenario()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, scenario: Scenario, workers: int = 1, redirect: str = "") -> House:
        """Start the supervisor in a process group of its own; does not wait for its children.

        `redirect` is what a shell does to its descriptors.
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
        """Change the scenario that the next reload reads."""
        replace(scenario, settings=self._scenario.settings).write(self.folder)

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Send the supervisor and everything below it a signal."""
        os.killpg(self.pid, number)

    def wait(self, timeout_s: float = 20) -> int:
        """Wait for the supervisor's end; its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def events(self, who: str = "", event: str = "") -> list[Event]:
        """The journal, or what concerns one child or one kind of event."""
        return [
            line
            for line in complete_lines(self.folder / "journal.jsonl")
            if line["who"].startswith(who) and line["event"].startswith(event)
        ]

    def births(self, who: str) -> list[Event]:
        """Every child that was born in this post."""
        return self.events(who, "born")

    def told(self, kind: str) -> list[Event]:
        """What coordinators were told, of this kind."""
        told = [event["message"] for event in self.events("coordinator", "told")]
        return [message for message in told if message["type"] == kind]

    def log(self, event: str = "") -> list[Event]:
        """The supervisor's log, or one kind of its lines."""
        return [
            line
            for line in complete_lines(self.folder / "log.jsonl")
            if event in ("", line["event"])
        ]

    def until_ready(self, children: int = 2) -> None:
        """Wait until so many children have said that they are ready."""
        eventually(lambda: len(self.log("child_ready")) >= children, 20, message="children ready")

    def until_born(self, who: str, times: int, timeout_s: float = 15) -> Event:
        """Wait for the n-th child in this post."""
        eventually(
            lambda: len(self.births(who)) >= times, timeout_s, message=f"{who} born {times} times"
        )
        return self.births(who)[times - 1]

    def until(self, predicate: Callable[[], Any], timeout_s: float = 15) -> Any:
        """Wait for something, and show the log if it does not come."""
        try:
            return eventually(predicate, timeout_s)
        except AssertionError as error:
            raise AssertionError((self.folder / "log.jsonl").read_text()) from error

    def pids(self) -> set[int]:
        """Everything that lives in the supervisor's session, zombies not counted."""
        return {pid for pid in _live_pids() if _session(pid) == self.pid}

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process is None:
            return
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # It has ended meanwhile.
        self._process.kill()
        self._process.wait(10)


@contextmanager
def house(folder: Path, method: str) -> Iterator[House]:
    """A house that is torn down at the end, whatever the test did to it."""
    built = House(folder, method)
    try:
        yield built
    finally:
        built.end()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def title(pid: int) -> str:
    """What ps shows of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def seconds_since(began_s: float) -> float:
    """Since a time.monotonic()."""
    return time.monotonic() - began_s


def _live_pids() -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if alive(pid)]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
