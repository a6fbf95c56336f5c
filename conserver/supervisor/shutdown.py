"""The shutdown: who has been asked to end, and by when.

1. The first stop signal asks all workers to drain, within one deadline for all of them.
2. At the deadline, or at a second signal, what is left is killed; nobody is blamed for that.
3. When no worker is left, the coordinator finishes its orders (it returns what the killed ones
   held)
   and ends, within a grace of its own. A third signal does not wait for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from conserver.supervisor.orders import CommandQueue
from conserver.supervisor.slots import ChildSlot, Verdict
from conserver.telemetry import log

COORDINATOR_GRACE_S = 3.0
"""How long the coordinator may take to end once no worker is left. With the default deadline of 25
s a
stop stays below the 30 s after which Kubernetes kills."""

SAME_WISH_S = 0.5
"""A stop signal so soon after another one is the same wish: a terminal or an init that signals the
whole group, and whoever started us, may each send one."""


class Shutdown:
    """The state of the one shutdown that every supervisor comes to."""

    def __init__(
        self, coordinator: ChildSlot, workers: Sequence[ChildSlot], orders: CommandQueue
    ) -> None:
        self.done = False
        """No child is left, and nothing can be done any more."""
        self.exit_code = 0
        self._coordinator = coordinator
        self._workers = workers
        self._orders = orders
        self._requests = 0
        self._requested_at_s = 0.0
        self._deadline_s: float | None = None
        self._coordinator_deadline_s: float | None = None
        self._log = log.get_logger()

    @property
    def under_way(self) -> bool:
        """Whether it has begun."""
        return self._requests > 0

    def hear_signal(self, name: str, at_s: float, timeout_s: float) -> None:
        """A stop signal has come: the first drains, a later one means now."""
        if self.under_way and at_s - self._requested_at_s <= SAME_WISH_S:
            return
        self.request(name, at_s, timeout_s)

    def request(self, why: str, at_s: float, timeout_s: float) -> None:
        """Begin; or, if it has begun, do not wait any longer.

        Args:
            why: for the log.
            at_s: time.monotonic() of the wish.
            timeout_s: how long the workers may take to finish what they run.
        """
        self._requests += 1
        self._requested_at_s = at_s
        if self._requests == 1:
            self._log.info("draining", why=why, timeout_s=timeout_s)
            self._deadline_s = at_s + timeout_s
            self._drain(at_s)
            return
        self._log.warning("stopping_now", why=why)
        self._kill_workers()
        if self._requests > 2:
            self._coordinator.kill(Verdict.OURS)
            self._coordinator_deadline_s = at_s

    def fail(self, exit_code: int, at_s: float) -> None:
        """End everything at once with this exit code, because a child cannot start."""
        self.exit_code = exit_code
        self.request("boot failure", at_s, 0.0)

    def wants_coordinator(self, now_s: float) -> bool:
        """Whether a coordinator that died has to be replaced: somebody's items are to be
        returned."""
        if not self.under_way:
            return True
        if self._coordinator_deadline_s is not None and now_s >= self._coordinator_deadline_s:
            return False
        return bool(self._orders) or bool(self._living())

    def moments(self) -> list[float]:
        """When there is something to do even if nothing happens."""
        moments = [self._deadline_s]
        if self._coordinator.verdict is Verdict.NONE:
            moments.append(self._coordinator_deadline_s)
        return [at_s for at_s in moments if at_s is not None]

    def advance(self, now_s: float) -> None:
        """Take the next step if its time has come."""
        living = self._living()
        if living:
            if self._deadline_s is not None and now_s >= self._deadline_s:
                self._deadline_s = None
                if self.exit_code == 0:
                    names = [post.name for post in living]
                    self._log.warning("drain_deadline_passed", killed=names)
                self._kill_workers()
            return
        self._deadline_s = None
        if self._coordinator_deadline_s is None:
            self._coordinator_deadline_s = now_s + COORDINATOR_GRACE_S
        coordinator = self._coordinator
        if coordinator.child is None:
            self._finish(now_s)
        elif now_s >= self._coordinator_deadline_s:
            coordinator.kill(Verdict.OURS)
        elif coordinator.child.ready and self._orders.all_sent:
            coordinator.part("shutdown", now_s, successor=False)

    def _finish(self, now_s: float) -> None:
        if self.wants_coordinator(now_s):
            return
        if self._orders:
            # Redis is away. Our host's beat stops now, and another coordinator reaps it.
            self._log.warning("orders_left_to_other_hosts", orders=len(self._orders))
        self.done = True

    def _drain(self, now_s: float) -> None:
        for post in self._workers:
            if post.child is not None:
                post.part("shutdown", now_s)
            elif post.consumer:
                # Registered, or about to be, and will never start.
                self._orders.add("return", consumer=post.consumer, **post.blame(0))
                post.vacate()
        coordinator = self._coordinator.child
        if coordinator is not None and not (coordinator.ready or self._orders or self._living()):
            self._coordinator.kill(Verdict.OURS)  # It waits for Redis and has nothing to finish.

    def _kill_workers(self) -> None:
        for post in self._living():
            post.kill(Verdict.OURS)

    def _living(self) -> list[ChildSlot]:
        return [post for post in self._workers if post.child is not None]
