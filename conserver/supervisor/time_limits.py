"""TimeLimits that are counted, not read: how long has a child stood still, how long has a link run.

The supervisor looks at the pages again and again and adds the time since its last look, but never
more than one second. So a host that was paused for an hour, or a supervisor that was, wakes up
with clocks that have moved by a second, and charges nobody for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from conserver.process.shared_status import Phase, StatusItem, StatusView

COUNTED_PER_LOOK_S_MAX = 1.0

STAMP_S_MAX = 1.5
"""A main loop that has not moved its stamp for longer is held up: it moves it once a second."""


class WatchdogClock:
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
    unsure_s: float = 0.0  # not counted yet: one of several may have stopped all of them

    def count(self, passed_s: float) -> None:
        """Add to what its link and its chain have used up."""
        self.link_s += passed_s
        self.chain_s += passed_s


@dataclass(frozen=True, slots=True)
class Overdue:
    """An item that has passed a hard limit: that of the link that runs, or that of its chain."""

    item: StatusItem
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


class TimeLimits:
    """The clocks of one child: made new for every child, fed by every look at its page.

    A link in C that holds the interpreter's lock stops every thread of its process, so its
    neighbours would pass their limits with it. The stamp stands still then. What passes meanwhile
    is therefore charged to an item only if no other one runs; several are charged as soon as the
    stamp moves again, and not at all if it has stood still for long. A limit that passes meanwhile
    shows in `held_up`: somebody is to be suspected, and nobody to be counted.
    """

    def __init__(self) -> None:
        self.stalled_s = 0.0
        """For how long its main loop has stood still."""
        self.held_up = False
        """Whether one of several links stops the others, past the hard limit of one of them."""
        self._stamp: int | None = None
        self._running: dict[int, _Running] = {}

    def look(self, view: StatusView, passed_s: float) -> Overdue | None:
        """Count one look at the page, `passed_s` after the one before.

        Returns:
            An item that has passed a hard limit.
        """
        moved = view.stamp != self._stamp
        self._stamp = view.stamp
        stood_still_s, self.stalled_s = self.stalled_s, 0.0 if moved else self.stalled_s + passed_s
        if not view.items:
            self._running.clear()
            self.held_up = False
            return None
        at_work = [item for item in view.items if item.phase in (Phase.RUNNING, Phase.PAUSED)]
        links = [item for item in at_work if item.phase is Phase.RUNNING]
        alone = len(links) == 1
        overdue: Overdue | None = None
        running: dict[int, _Running] = {}
        for item in at_work:
            running[item.slot] = clock = self._clock(item)
            if item.phase is Phase.RUNNING and clock is self._running.get(item.slot):
                _charge(clock, passed_s, sure=moved or alone, lost=stood_still_s > STAMP_S_MAX)
            if clock.run != item.run:
                clock.run, clock.link_s, clock.unsure_s = item.run, 0.0, 0.0
            overdue = overdue or _judge(item, clock)
        self._running = running
        limits_s = [s for item in links for s in (item.limit_s, item.chain_limit_s) if s]
        self.held_up = not alone and self.stalled_s >= max(STAMP_S_MAX, min(limits_s, default=inf))
        return overdue

    def _clock(self, item: StatusItem) -> _Running:
        clock = self._running.get(item.slot)
        if clock is None or clock.chain_run != item.chain_run:
            return _Running(item.run, item.chain_run)
        return clock


def _charge(clock: _Running, passed_s: float, *, sure: bool, lost: bool) -> None:
    """Count what has passed since the last look.

    Args:
        sure: this item has had it: whatever was unsure before is counted too.
        lost: its process has stood still for so long that the unsure is charged to nobody.
    """
    if not sure:
        clock.unsure_s += passed_s
        return
    clock.count(passed_s if lost else passed_s + clock.unsure_s)
    clock.unsure_s = 0.0


def _judge(item: StatusItem, clock: _Running) -> Overdue | None:
    if 0 < item.limit_s <= clock.link_s:
        return Overdue(item, "link", item.limit_s)
    if 0 < item.chain_limit_s <= clock.chain_s:
        return Overdue(item, "chain", item.chain_limit_s)
    return None
