"""The watchdog: liveness, stalls and hard time limits of all children.

Every 0.5 s the watchdog looks at the SharedStatus of every child.

1. Liveness: a child whose heartbeat count has not changed for CONSERVER_STALL_TIMEOUT_S has
   stalled and is killed. If several links run in a worker, it is killed earlier where one of them
   has a hard time limit that is shorter (TimeLimits).
2. Hard time limits: a worker with an item past the hard_timeout_s of its link or chain is killed.
3. Recycling: a worker that has processed CONSERVER_MAX_ITEMS_PER_WORKER items, or has grown beyond
   CONSERVER_MAX_WORKER_MEMORY, is asked to leave (replacement.py).

death.py says which items are blamed for a kill.

The watchdog measures time by its looks: each look counts the time since the previous one, but at
most 1 s. So no child is killed because its host or the supervisor was suspended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from weakref import WeakKeyDictionary

from conserver.config.settings import Settings
from conserver.process.shared_status import Phase, StatusItem, StatusView
from conserver.supervisor.child import Child
from conserver.supervisor.death import KillReason, LimitExceeded
from conserver.supervisor.replacement import Replacement
from conserver.supervisor.slots import ChildSlot
from conserver.telemetry import log

LOOK_EVERY_S = 0.5
"""The time between two looks. The first look that sees an item only starts its count. So a worker
is killed up to two looks late.
"""

COUNTED_PER_LOOK_MAX_S = 1.0

FROZEN_AFTER_S = 1.5
"""A main loop that has not beaten for this long is frozen. It should beat once a second."""


class WatchdogClock:
    """Measures the time between two looks, at most COUNTED_PER_LOOK_MAX_S."""

    def __init__(self, now_s: float) -> None:
        self._last_s = now_s

    def elapsed_s(self, now_s: float) -> float:
        """The time since the last call, at most COUNTED_PER_LOOK_MAX_S."""
        elapsed_s = now_s - self._last_s
        self._last_s = now_s
        return min(max(elapsed_s, 0.0), COUNTED_PER_LOOK_MAX_S)


class Watchdog:
    """Looks at all children every LOOK_EVERY_S."""

    def __init__(self, slots: Sequence[ChildSlot], replacement: Replacement, now_s: float) -> None:
        self.due_at_s = now_s
        """When the next look is due, by time.monotonic()."""
        self._slots = slots
        self._replacement = replacement
        self._clock = WatchdogClock(now_s)
        self._time_limits: WeakKeyDictionary[Child, TimeLimits] = WeakKeyDictionary()
        self._log = log.get_logger()

    def advance(self, settings: Settings, now_s: float, *, recycle: bool) -> None:
        """Look at all children if it is time to.

        Args:
            settings: the limits.
            now_s: time.monotonic().
            recycle: whether workers may be recycled.
        """
        if now_s < self.due_at_s:
            return
        self.due_at_s = now_s + LOOK_EVERY_S
        elapsed_s = self._clock.elapsed_s(now_s)
        for slot in self._slots:
            child = slot.child
            if child is None or slot.kill_reason is not None:
                continue
            view = slot.status.read()
            limits = self._time_limits.setdefault(child, TimeLimits())
            exceeded = limits.look(view, elapsed_s)
            if exceeded is not None:
                self._kill_over_limit(slot, child, exceeded)
            elif limits.frozen_past_limit or limits.stalled_s >= _stall_timeout_s(child, settings):
                stalled_s = round(limits.stalled_s, 1)
                self._log.warning(
                    "child_stalled", child=slot.name, pid=child.pid, stalled_s=stalled_s
                )
                slot.kill(KillReason.STALLED)
            elif recycle and slot.role == "worker":
                self._replacement.recycle(slot, view, now_s, settings.shutdown_timeout_s)

    def _kill_over_limit(self, slot: ChildSlot, child: Child, exceeded: LimitExceeded) -> None:
        item = exceeded.item
        self._log.warning(
            "hard_time_limit_passed",
            child=slot.name,
            pid=child.pid,
            vcon=item.uuid,
            chain=item.chain,
            link=item.link,
            reason=exceeded.reason,
        )
        slot.kill(KillReason.TIME_LIMIT, exceeded)


def _stall_timeout_s(child: Child, settings: Settings) -> float:
    """The stall timeout of a child. A child that still imports modules does not beat, so until it
    is ready the boot timeout counts if that is longer.
    """
    if child.ready:
        return settings.stall_timeout_s
    return max(settings.stall_timeout_s, settings.boot_timeout_s)


@dataclass(slots=True)
class _Counter:
    """The time that one item's running link, and all links of its chain, have used so far."""

    link_run: int
    chain_run: int
    link_s: float = 0.0
    chain_s: float = 0.0


class TimeLimits:
    """How long one child has stalled, and how long its items' links have run.

    A link in C that keeps the interpreter's lock (GIL) freezes all threads of its worker, and the
    heartbeat stands still. If one link runs, the time of the freeze counts against it, as always.
    If several links run, nothing shows which of them is at fault. Then:

    - The first FROZEN_AFTER_S of the freeze are charged to each of these links, the time after that
      to none. The look that sees a new heartbeat charges the time since the look before as usual.
    - `look` reports no item as past its limit until the heartbeat moves again.
    - `frozen_past_limit` is set when the freeze has lasted as long as the shortest limit of these
      links and their chains, and at least FROZEN_AFTER_S. The worker is then killed as stalled.
    """

    def __init__(self) -> None:
        self.stalled_s = 0.0
        """For how long the heartbeat count has not changed."""
        self.frozen_past_limit = False
        self._heartbeats: int | None = None
        self._counters: dict[int, _Counter] = {}

    def look(self, view: StatusView, elapsed_s: float) -> LimitExceeded | None:
        """Count one look at the child's status, elapsed_s after the last one.

        Returns:
            An item that has passed a hard time limit, if any.
        """
        beaten = view.heartbeats != self._heartbeats
        self._heartbeats = view.heartbeats
        self.stalled_s = 0.0 if beaten else self.stalled_s + elapsed_s
        in_chain = [item for item in view.items if item.phase in (Phase.RUNNING, Phase.UNTIMED)]
        running = [item for item in in_chain if item.phase is Phase.RUNNING]
        uncertain = not beaten and len(running) > 1
        charged_s = 0.0 if uncertain and self.stalled_s > FROZEN_AFTER_S else elapsed_s
        self._counters = {item.slot: self._counted(item, charged_s) for item in in_chain}
        if not uncertain:
            self.frozen_past_limit = False
            found = (_exceeded(item, self._counters[item.slot]) for item in in_chain)
            return next(filter(None, found), None)
        limits_s = [s for item in running for s in (item.limit_s, item.chain_limit_s) if s]
        shortest_s = max(FROZEN_AFTER_S, min(limits_s, default=inf))
        self.frozen_past_limit = self.stalled_s >= shortest_s
        return None

    def _counted(self, item: StatusItem, charged_s: float) -> _Counter:
        counter = self._counters.get(item.slot)
        if counter is None or counter.chain_run != item.chain_run:
            return _Counter(item.link_run, item.chain_run)  # It may have started just now.
        if item.phase is Phase.RUNNING:
            counter.link_s += charged_s
            counter.chain_s += charged_s
        if counter.link_run != item.link_run:
            counter.link_run, counter.link_s = item.link_run, 0.0
        return counter


def _exceeded(item: StatusItem, counter: _Counter) -> LimitExceeded | None:
    if 0 < item.limit_s <= counter.link_s:
        return LimitExceeded(item, "link", item.limit_s)
    if 0 < item.chain_limit_s <= counter.chain_s:
        return LimitExceeded(item, "chain", item.chain_limit_s)
    return None
