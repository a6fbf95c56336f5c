"""Signals to a whole process tree, read from /proc.

A process group is not enough: every PostgreSQL backend leads a group of its own, so that stopping
the postmaster's group would leave its open connections answering.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_STOP_TIMEOUT_S = 60
_POLL_S = 0.001


def birth_of(pid: int) -> int | None:
    """The kernel's start time of a process, in clock ticks; None if it is gone or a zombie.

    Together with the pid it names one process for good, whatever pids are used again.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name may hold blanks and brackets: fields are counted from behind it.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def family_of(pid: int) -> list[int]:
    """The process and everything below it, parents before their children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue
        parent = int(text.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    family = [pid]
    for member in family:
        family.extend(children.get(member, ()))
    return family


def signal_tree(pid: int, signal_number: int) -> None:
    """Send a signal to a process and all below it, including those born meanwhile."""
    reached: set[int] = set()
    while True:
        # Parents first, and once more until a look finds nobody new: a stopped parent forks no
        # further children.
        fresh = [member for member in family_of(pid) if member not in reached]
        if not fresh:
            return
        for member in fresh:
            reached.add(member)
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal_number)


def stop_tree(pid: int) -> None:
    """SIGSTOP a process and all below it, and wait until every one stands still.

    Raises TimeoutError.
    """
    signal_tree(pid, signal.SIGSTOP)
    await_stop(lambda: family_of(pid))


def await_stop(pids: Callable[[], Iterable[int]]) -> None:
    """Wait until all of these processes, which got SIGSTOP, stand still or are gone.

    kill() only asks for a signal. On a busy machine the target runs on for a while; another of its
    threads may even end the process meanwhile. Raises TimeoutError.
    """
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while running := [pid for pid in pids() if _state_of(pid) in "RSD"]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"these processes do not stop: {running}")
        time.sleep(_POLL_S)


def _state_of(pid: int) -> str:
    """The letter of /proc: R, S and D go on, T stands still; X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all below it; a stopped tree dies too."""
    signal_tree(pid, signal.SIGSTOP)
    for member in reversed(family_of(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
