"""Planned replacements: after a reload, and recycling of workers that have used up their limits.

One worker at a time drains and is replaced, while the other workers go on. After a reload,
replacing stops at the first new worker that does not become ready. So a bad configuration costs one
worker and not the service.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from conserver.config.settings import Settings
from conserver.process.shared_status import StatusView
from conserver.supervisor.child import Child
from conserver.supervisor.death import KillReason, LeaveReason
from conserver.supervisor.slots import ChildSlot
from conserver.telemetry import log

COORDINATOR_DRAIN_MAX_S = 3.0
"""How long the coordinator may take to drain for its successor."""

MEMORY_EVERY_S = 5.0
"""How often a worker's memory is checked. To report it, the kernel may walk all of its pages."""

JITTER = 0.1
"""Each child's limits are lowered by up to this share, at random, so that workers that started
together are not recycled together."""


class RecycleLimits:
    """How many items and how much memory one worker may use before it is recycled."""

    def __init__(self, items_max: int, memory_bytes_max: int) -> None:
        """items_max, memory_bytes_max: 0 for no limit."""
        share = 1 - random.random() * JITTER
        self._items_max = math.ceil(items_max * share)
        self._memory_bytes_max = memory_bytes_max * share
        self._memory_due_s = 0.0

    def exceeded(self, pid: int, view: StatusView, now_s: float) -> str:
        """Which limit is exceeded, such as "1000 items" or "210 MiB of memory"; "" if none."""
        items = view.items_done + view.items_failed
        if self._items_max and items >= self._items_max:
            return f"{items} items"
        if not self._memory_bytes_max or now_s < self._memory_due_s:
            return ""
        self._memory_due_s = now_s + MEMORY_EVERY_S
        used_bytes = view.rss_bytes or memory_bytes(pid)
        return f"{used_bytes >> 20} MiB of memory" if used_bytes > self._memory_bytes_max else ""


def memory_bytes(pid: int) -> int:
    """The proportional set size (PSS) of a process: its own memory and its share of the shared
    memory; 0 if it cannot be read.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0


class Replacement:
    """Decides which child is replaced next, and asks it to leave."""

    def __init__(
        self,
        coordinator: ChildSlot,
        workers: Sequence[ChildSlot],
        services: Sequence[ChildSlot] = (),
    ) -> None:
        self._coordinator = coordinator
        self._workers = workers
        self._services = services
        self._limits: WeakKeyDictionary[Child, RecycleLimits] = WeakKeyDictionary()
        self._log = log.get_logger()

    def recycle(
        self, slot: ChildSlot, view: StatusView, now_s: float, drain_timeout_s: float
    ) -> None:
        """Ask a worker to leave if it has exceeded a limit, and no other worker drains or starts.

        A slot whose children keep dying does not delay this: it may never have a worker again.
        """
        child = slot.child
        if child is None or not slot.serving:
            return
        limits = self._limits.setdefault(child, _limits(child.boot.settings))
        spent = limits.exceeded(child.pid, view, now_s)
        if not spent or self._someone_drains(now_s, drain_timeout_s):
            return
        if not any(other.ready_soon for other in self._workers):
            self._log.info("worker_recycled", child=slot.name, pid=child.pid, spent=spent)
            slot.drain(LeaveReason.RECYCLING, now_s)

    def ask(self, number: int, consumer: str) -> None:
        """Ask the worker with this consumer id to leave, because an operator wants it replaced.

        The worker first finishes its items, however long they take. If it is gone or already
        leaving, nothing happens. Other workers may drain at the same time: the operator decides.
        """
        for slot in self._workers:
            if slot.number == number and slot.consumer == consumer and slot.child is not None:
                pid = slot.child.pid
                self._log.info("worker_recycled", child=slot.name, pid=pid, spent="an operator")
                slot.drain(LeaveReason.RECYCLING, time.monotonic())

    def advance(self, generation: int, now_s: float, drain_timeout_s: float) -> None:
        """After a reload: replace the next worker, then the services, and last the coordinator.

        Args:
            generation: the number of the present configuration.
            now_s: time.monotonic().
            drain_timeout_s: how long a draining worker delays the next one. (A link may take
                hours.)
        """
        coordinator = self._coordinator
        if (
            coordinator.leave_reason is LeaveReason.RELOAD
            and now_s - coordinator.leaving_since_s > COORDINATOR_DRAIN_MAX_S
        ):
            coordinator.kill(KillReason.UNNEEDED)
        for slot in self._services:
            # While a service drains, no process serves its port. So it is killed when it is late.
            late = now_s - slot.leaving_since_s > drain_timeout_s
            if slot.leave_reason is LeaveReason.RELOAD and late:
                slot.kill(KillReason.UNNEEDED)
        outdated = [slot for slot in self._workers if slot.generation != generation]
        if outdated:
            self._replace_one(outdated, now_s, drain_timeout_s)
        elif all(slot.serving for slot in self._workers):
            for slot in self._services:
                if slot.generation != generation and slot.serving:
                    slot.drain(LeaveReason.RELOAD, now_s)
            if coordinator.generation != generation and coordinator.serving:
                coordinator.drain(LeaveReason.RELOAD, now_s, successor=True)

    def _replace_one(
        self, outdated: Sequence[ChildSlot], now_s: float, drain_timeout_s: float
    ) -> None:
        if self._someone_drains(now_s, drain_timeout_s):
            return
        if any(not slot.serving and slot.leave_reason is None for slot in self._workers):
            return  # A slot is empty, or its new child is not ready yet.
        slot = next((slot for slot in outdated if slot.serving), None)
        if slot is not None:
            self._log.info("worker_replaced_after_reload", child=slot.name)
            slot.drain(LeaveReason.RELOAD, now_s)

    def _someone_drains(self, now_s: float, drain_timeout_s: float) -> bool:
        """Whether a worker has been draining for less than drain_timeout_s."""
        return any(
            slot.leave_reason is not None and now_s - slot.leaving_since_s < drain_timeout_s
            for slot in self._workers
        )


def _limits(settings: Settings) -> RecycleLimits:
    return RecycleLimits(settings.max_items_per_worker, settings.max_worker_memory)
