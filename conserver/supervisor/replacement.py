"""Planned replacements: after a reload, and of workers that have used up their ration.

One worker at a time drains and is replaced; the others go on. A rotation after a reload stops at
the first replacement that does not come up, so a configuration that no worker can live with costs
one worker and not the service.
"""

from __future__ import annotations

from collections.abc import Sequence

from conserver.process.shared_status import StatusView
from conserver.supervisor.slots import ChildSlot, Verdict
from conserver.telemetry import log

COORDINATOR_LEAVES_S_MAX = 3.0
"""How long the coordinator may take to make room for its successor."""


class Replacement:
    """Decides who is replaced next, and asks that one to leave."""

    def __init__(self, coordinator: ChildSlot, workers: Sequence[ChildSlot]) -> None:
        self._coordinator = coordinator
        self._workers = workers
        self._log = log.get_logger()

    def recycle(self, post: ChildSlot, view: StatusView, now_s: float, patience_s: float) -> None:
        """Ask this worker to leave if it has used up its ration and no other one is missing.

        One whose children keep dying is not waited for: nobody knows when it will be back.
        """
        if post.child is None or not post.serving:
            return
        spent = post.recycle_limits.spent(post.child.pid, view, now_s)
        if not spent or self._someone_leaves(now_s, patience_s):
            return
        if not any(other.on_its_way for other in self._workers):
            self._log.info("worker_recycled", child=post.name, pid=post.child.pid, spent=spent)
            post.part("recycling", now_s)

    def advance(self, generation: int, now_s: float, patience_s: float) -> None:
        """After a reload: the next worker whose turn has come, and last of all the coordinator.

        Args:
            generation: the number of the present configuration.
            now_s: time.monotonic().
            patience_s: how long the others wait for one that drains; a link may take hours.
        """
        coordinator = self._coordinator
        if (
            coordinator.farewell == "reload"
            and now_s - coordinator.farewell_at_s > COORDINATOR_LEAVES_S_MAX
        ):
            coordinator.kill(Verdict.OURS)
        outdated = [post for post in self._workers if post.generation != generation]
        if outdated:
            self._replace_one(outdated, now_s, patience_s)
        elif (
            coordinator.generation != generation
            and coordinator.serving
            and all(post.serving for post in self._workers)
        ):
            coordinator.part("reload", now_s, successor=True)

    def _replace_one(self, outdated: Sequence[ChildSlot], now_s: float, patience_s: float) -> None:
        if self._someone_leaves(now_s, patience_s):
            return
        if any(not post.serving and not post.farewell for post in self._workers):
            return  # A post is empty, or its new child is not ready yet.
        post = next((post for post in outdated if post.serving), None)
        if post is not None:
            self._log.info("worker_replaced_after_reload", child=post.name)
            post.part("reload", now_s)

    def _someone_leaves(self, now_s: float, patience_s: float) -> bool:
        return any(
            post.farewell and now_s - post.farewell_at_s < patience_s for post in self._workers
        )
