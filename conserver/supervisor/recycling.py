"""What one worker may use up before it is replaced: items, or memory."""

from __future__ import annotations

import math
import random
from pathlib import Path

from conserver.process.shared_status import StatusView

MEMORY_LOOK_S = 5.0
"""How often memory is looked at: the kernel walks the whole address space for it."""

JITTER = 0.1
"""By how much of it each limit is lowered, at random per child: workers that started together are
not all replaced together."""


class RecycleLimits:
    """The ration of one child; made new for every child."""

    def __init__(self, items_max: int, memory_bytes_max: int) -> None:
        """The limits; 0 is none."""
        share = 1 - random.random() * JITTER
        self._items_max = math.ceil(items_max * share)
        self._memory_bytes_max = memory_bytes_max * share
        self._next_look_s = 0.0

    def spent(self, pid: int, view: StatusView, now_s: float) -> str:
        """What it has used up, in words; empty while there is something left."""
        items = view.items_done + view.items_failed
        if self._items_max and items >= self._items_max:
            return f"{items} items"
        if not self._memory_bytes_max or now_s < self._next_look_s:
            return ""
        self._next_look_s = now_s + MEMORY_LOOK_S
        used_bytes = view.rss_bytes or memory_bytes(pid)
        return f"{used_bytes >> 20} MiB of memory" if used_bytes > self._memory_bytes_max else ""


def memory_bytes(pid: int) -> int:
    """The memory of a process, what it shares counted by its part; 0 if that cannot be seen."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0
