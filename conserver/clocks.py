"""Clocks that are counted, not read: how long has a child stood still, how long has a link run.

The supervisor looks at the pages again and again and adds the time since its last look, but never
more than one second. So a host that was paused for an hour, or a supervisor that was, wakes up
with clocks that have moved by a second, and charges nobody for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from conserver.page import PageItem, PageView, Phase

COUNTED_PER_LOOK_S_MAX = 1.0


class LookClock:
    """The time between looks, as far as it counts."""

    def __init__(self, now_s: float) -> None:
        self._last_s = now_s

    def passed_s(self, now_s: float) -> float:
        """What counts of the time since the last call."""
        passed_s = now_s - self._last_s
        self._last_s = now_s
        return min(max(passed_s, 0.0), COUNTED_PER_LOOK_S_MAX)


@dataclass(slots=True)
class _Running:
    """One item slot whose link runs: which run it is, and what it has used up."""

    run: int
    chain_run: int
    link_s: float = 0.0
    chain_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Overdue:
    """An item that has passed a hard limit: that of the link that runs, or that of its chain."""

    item: PageItem
    of: Literal["link", "chain"]
    limit_s: float

    @property
    def reason(self) -> str:
        """What has happened, in words."""
        item = self.item
        if self.of == "link":
            return f"the link {item.link} ran longer than its hard_timeout_s of {self.limit_s:g} s"
        return (
            f"the links of the chain {item.chain} ran longer than its hard_timeout_s of"
            f" {self.limit_s:g} s, the last of them {item.link}"
        )


class Clocks:
    """The clocks of one child: made new for every child, fed by every look at its page."""

    def __init__(self) -> None:
        self.stalled_s = 0.0
        """For how long its main loop has stood still."""
        self._stamp: int | None = None
        self._running: dict[int, _Running] = {}

    def look(self, view: PageView, passed_s: float) -> Overdue | None:
        """Count one look at the page, `passed_s` after the one before.

        Returns:
            An item that has passed a hard limit.
        """
        if view.stamp == self._stamp:
            self.stalled_s += passed_s
        else:
            self._stamp = view.stamp
            self.stalled_s = 0.0
        if not view.items:
            self._running.clear()
            return None
        overdue: Overdue | None = None
        running: dict[int, _Running] = {}
        for item in view.items:
            if item.phase not in (Phase.RUNNING, Phase.PAUSED):
                continue
            running[item.slot] = clock = self._count(item, passed_s)
            if _over(clock.link_s, item.limit_s):
                overdue = overdue or Overdue(item, "link", item.limit_s)
            elif _over(clock.chain_s, item.chain_limit_s):
                overdue = overdue or Overdue(item, "chain", item.chain_limit_s)
        self._running = running
        return overdue

    def _count(self, item: PageItem, passed_s: float) -> _Running:
        clock = self._running.get(item.slot)
        if clock is None or clock.chain_run != item.chain_run:
            return _Running(item.run, item.chain_run)
        if item.phase is Phase.RUNNING:
            clock.chain_s += passed_s
            clock.link_s += passed_s
        if clock.run != item.run:
            clock.run = item.run
            clock.link_s = 0.0
        return clock


def _over(used_s: float, limit_s: float) -> bool:
    return limit_s > 0 and used_s >= limit_s
