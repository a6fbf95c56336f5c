"""Prefetch: how many items a claim asks for on each list of a chain.

The number is what the chain's threads finish within HORIZON_S, by the measured durations of its
items (1 item while none is measured). It is at least one item per idle thread that may run the
chain. The claim asks for none of the chain's items in any of these cases:

    enough queued    More than half of that number is queued in the worker already. If a thread is
                     free for the chain, the chain's own items are counted, else those of all
                     chains.
    slow items       No thread is free for the chain, and none will be soon. There are three such
                     cases: on average, a thread finishes at most one of the chain's items
                     within HORIZON_S; their duration is not known yet; or all threads that
                     may run them have each been busy with one item for longer than HORIZON_S.
                     A claimed item would wait here, where no other worker can run it.
    little room      The worker is at work, and its free slots are fewer than that number and fewer
                     than CLAIM_MIN.

So a worker claims fast items in large batches, and leaves slow items to other workers. One claim
takes from all its lists together at most the largest of the chains' numbers, because the chains
share the threads. rates.py may lower a number. The bounds of one claim are in queue/calls.py,
those of a worker in held_items.py.
"""

from __future__ import annotations

from conserver.worker.pool import ChainPool

HORIZON_S = 0.1
CLAIM_MIN = 32
"""A claim of a few items costs nearly as much as one of 32."""


class ItemDurations:
    """Moving averages of how long the links of one item take, per chain."""

    def __init__(self) -> None:
        self._average_s: dict[str, float] = {}

    def add(self, chain: str, seconds: float) -> None:
        """Count a finished item. One above the average moves it by half, one below by a tenth."""
        average_s = self._average_s.get(chain, seconds)
        weight = 0.5 if seconds > average_s else 0.1
        self._average_s[chain] = average_s + (seconds - average_s) * weight

    def any_within(self, seconds: float) -> bool:
        """Whether there is a chain whose items take at most `seconds`."""
        return any(average_s <= seconds for average_s in self._average_s.values())

    def items_per_horizon(self, chain: str, threads: int) -> int:
        """The number of items that `threads` threads finish within HORIZON_S; 1 if unmeasured."""
        average_s = self._average_s.get(chain)
        if average_s is None:
            return 1
        return max(1, int(HORIZON_S * threads / max(average_s, 1e-6)))


class Prefetch:
    """Computes how many items a claim may ask for. Used by the worker loop only."""

    def __init__(self, pool: ChainPool) -> None:
        self._pool = pool
        self._work_queue = pool.queue
        self.durations = ItemDurations()

    def wanted(self, held: int, free_slots: int) -> dict[str, int]:
        """Chain -> how many items to claim from each of its lists; only chains with room.

        Args:
            held: how many items the worker holds.
            free_slots: how many more items the worker has room for.
        """
        queue, busy = self._work_queue, self._pool.busy_longer_than(HORIZON_S)
        queued, idle = len(queue), queue.idle_threads
        wanted = {}
        for name, threads in queue.threads.items():
            most = self.durations.items_per_horizon(name, threads)
            startable = min(idle, threads - queue.running[name])
            if startable > 0:
                most = max(most, startable)
                ahead = queue.queued(name)  # Items of other chains do not use these threads.
            elif most <= threads or len(busy) == len(self._pool) or busy.count(name) >= threads:
                continue  # slow items: of this chain (or not measured), or in all threads
            else:
                ahead = queued
            if ahead * 2 > most:
                continue  # enough queued
            if free_slots < min(most, CLAIM_MIN) and held > queued:
                continue  # little room
            wanted[name] = min(most, free_slots)
        return wanted
