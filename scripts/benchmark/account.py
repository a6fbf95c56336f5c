"""What a set of processes has spent: CPU from /proc, memory as proportional set size."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def session(leader: int) -> list[int]:
    """All processes of a session, its helpers included."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields and int(fields[3]) == leader:
                found.append(int(folder.name))
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and of their children that have ended and were waited for.

    schedstat counts nanoseconds where the kernel keeps it; the clock ticks of stat are too coarse
    for a run of a second.
    """
    total = 0.0
    for pid in pids:
        total += _tasks_s(pid) or _ticks_s(pid)
    return total


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes together, pages that they share counted once."""
    total = 0
    for pid in pids:
        try:
            text = (Path("/proc") / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


def _tasks_s(pid: int) -> float:
    total = 0
    try:
        for task in (Path("/proc") / str(pid) / "task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return total / 1e9


def _ticks_s(pid: int) -> float:
    fields = _stat(pid)
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / _TICKS if fields else 0.0


def _stat(pid: int) -> list[str]:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
