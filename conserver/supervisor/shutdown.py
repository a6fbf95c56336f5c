"""Graceful shutdown: workers and services drain, or are killed at a deadline; then the coordinator
ends.

The first stop signal (SIGTERM or SIGINT) makes all workers and services drain, with one deadline.
The second stop signal kills them at once; no item is blamed for that. The third stop signal kills
the coordinator, too.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import asdict

from conserver.process.messages import Blame
from conserver.supervisor.death import KillReason, LeaveReason
from conserver.supervisor.orders import OrderQueue
from conserver.supervisor.slots import ChildSlot
from conserver.telemetry import log

COORDINATOR_GRACE_S = 3.0
"""How long the coordinator may take to exit once no worker is left. With the default drain timeout
of 25 s a stop takes less than 30 s, after which Kubernetes kills a container."""

SIGNAL_DEBOUNCE_S = 0.5
"""A stop signal within this time after another one is not counted: a terminal or an init may signal
the supervisor and its whole process group."""


class Stage(enum.Enum):
    """How far the shutdown has got. The stage only moves down this table.

    stage       ends                                     workers,     coordinator
                                                         services
    NONE        at the first stop signal, or when a      run          runs
                child cannot start
    DRAINING    when no worker and no service is left;   drain        returns the items of workers
                they are killed at the deadline or by
                a second signal
    FINISHING   when the coordinator has exited; it is   none left    carries out its orders,
                killed after COORDINATOR_GRACE_S or by                then exits; at once if Redis
                a third signal                                        is away and no order returns
                                                                      items
    DONE                                                 none         none
    """

    NONE = enum.auto()
    DRAINING = enum.auto()
    FINISHING = enum.auto()
    DONE = enum.auto()


class Shutdown:
    """The shutdown of one supervisor, from the first stop signal on."""

    def __init__(
        self,
        coordinator: ChildSlot,
        workers: Sequence[ChildSlot],
        orders: OrderQueue,
        services: Sequence[ChildSlot] = (),
    ) -> None:
        self.stage = Stage.NONE
        self.exit_code = 0
        self._coordinator = coordinator
        self._workers = workers
        self._services = services
        self._orders = orders
        self._requests = 0
        self._requested_at_s = 0.0
        self._deadline_s: float | None = None
        self._coordinator_deadline_s: float | None = None
        self._log = log.get_logger()

    @property
    def in_progress(self) -> bool:
        """Whether the shutdown has begun."""
        return self.stage is not Stage.NONE

    def on_signal(self, name: str, at_s: float, timeout_s: float) -> None:
        """Handle a stop signal that arrived at at_s. See `request`."""
        if self.in_progress and at_s - self._requested_at_s <= SIGNAL_DEBOUNCE_S:
            return
        self.request(name, at_s, timeout_s)

    def request(self, why: str, at_s: float, timeout_s: float) -> None:
        """Begin the shutdown. If it has begun already, kill the workers and services.

        Args:
            why: for the log.
            at_s: time.monotonic() of the request.
            timeout_s: how long workers and services may drain.
        """
        self._requests += 1
        self._requested_at_s = at_s
        if self.stage is Stage.NONE:
            self.stage = Stage.DRAINING
            self._log.info("draining", why=why, timeout_s=timeout_s)
            self._deadline_s = at_s + timeout_s
            self._drain(at_s)
            return
        self._log.warning("stopping_now", why=why)
        self._kill_workers()
        if self._requests > 2:
            self._coordinator.kill(KillReason.UNNEEDED)
            self._coordinator_deadline_s = at_s

    def fail(self, exit_code: int, at_s: float) -> None:
        """Stop everything without a drain, with this exit code, because a child cannot start."""
        self.exit_code = exit_code
        self.request("boot failure", at_s, 0.0)

    def needs_coordinator(self, now_s: float) -> bool:
        """Whether a coordinator that died must be replaced: items may still have to be returned."""
        if not self.in_progress:
            return True
        if self._coordinator_deadline_s is not None and now_s >= self._coordinator_deadline_s:
            return False
        return bool(self._orders) or any(slot.child is not None for slot in self._workers)

    def coordinator_ended(self) -> None:
        """Note that the coordinator has ended as ordered. It is not replaced, even if orders are
        left: Redis is away, or a key has the wrong type.
        """
        self._coordinator_deadline_s = 0.0

    def deadlines(self) -> list[float]:
        """The times at which `advance` must be called, by time.monotonic()."""
        deadlines = [self._deadline_s]
        if self._coordinator.kill_reason is None:
            deadlines.append(self._coordinator_deadline_s)
        return [at_s for at_s in deadlines if at_s is not None]

    def advance(self, now_s: float) -> None:
        """Take the next step if it is due."""
        if self.stage is Stage.DRAINING:
            self._await_workers(now_s)
        if self.stage is Stage.FINISHING:
            self._await_coordinator(now_s)

    def _await_workers(self, now_s: float) -> None:
        living = self._living()
        if not living:
            self.stage, self._deadline_s = Stage.FINISHING, None
            if self._coordinator_deadline_s is None:
                self._coordinator_deadline_s = now_s + COORDINATOR_GRACE_S
        elif self._deadline_s is not None and now_s >= self._deadline_s:
            self._deadline_s = None
            if self.exit_code == 0:
                names = [slot.name for slot in living]
                self._log.warning("drain_deadline_passed", killed=names)
            self._kill_workers()

    def _await_coordinator(self, now_s: float) -> None:
        child, deadline_s = self._coordinator.child, self._coordinator_deadline_s
        if child is None:
            if self.needs_coordinator(now_s):
                return
            if self._orders:
                # Redis is away, or a key has the wrong type. Another host executes the orders after
                # this host's lease.
                self._log.warning("orders_left_to_other_hosts", orders=len(self._orders))
            self.stage = Stage.DONE
        elif deadline_s is not None and now_s >= deadline_s:
            self._coordinator.kill(KillReason.UNNEEDED)
        elif child.ready and self._orders.all_sent:
            patient = self._orders.may_return_items
            self._coordinator.drain(LeaveReason.SHUTDOWN, now_s, successor=False, patient=patient)

    def _drain(self, now_s: float) -> None:
        for slot in (*self._workers, *self._services):
            if slot.child is not None:
                slot.drain(LeaveReason.SHUTDOWN, now_s)
            elif slot.consumer:
                # The consumer id is registered, or about to be, but its worker is not started.
                consumer, blame = slot.consumer, asdict(Blame())
                self._orders.add("return", consumer=consumer, blame=blame, empty=True)
                slot.clear()
        coordinator = self._coordinator.child
        if coordinator is None or coordinator.ready or self._orders:
            return
        if all(slot.child is None for slot in self._workers):
            self._coordinator.kill(KillReason.UNNEEDED)  # It waits for Redis and has no orders.

    def _kill_workers(self) -> None:
        for slot in self._living():
            slot.kill(KillReason.UNNEEDED)

    def _living(self) -> list[ChildSlot]:
        return [slot for slot in (*self._workers, *self._services) if slot.child is not None]
