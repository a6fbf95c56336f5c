"""The child slots of one supervisor, and what all children share.

A slot outlives its children. A replacement gets the same sockets and the same shared status, so
that no other process needs new descriptors. The slot also has the state of its present child, and
the backoff before the next child.
"""

from __future__ import annotations

import enum
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.process import backoff
from conserver.process.boot import Boot, Role, Service
from conserver.process.messages import discard, pair, send
from conserver.process.shared_status import SharedStatus
from conserver.supervisor.child import Child
from conserver.supervisor.death import Death, KillReason, LeaveReason, LimitExceeded

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
LONG_LIFE_S = 60.0
"""The death of a child that lived this long begins a new series of deaths."""


class Backoff:
    """The restart backoff of one slot.

    There is none after the first death. Then it is BACKOFF_FIRST_S, and doubles with each death up
    to BACKOFF_MAX_S. While items are blamed for the deaths, it stays at BACKOFF_FIRST_S.
    """

    def __init__(self) -> None:
        self.deaths = 0
        """Deaths in a row, each of a child that lived for less than LONG_LIFE_S."""

    def after_s(self, lived_s: float, *, blamed: bool = False) -> float:
        """Count a death, and return how long the replacement has to wait.

        Args:
            lived_s: how long the child lived.
            blamed: an item caused the death. The wait is short then, because the crash loop stops
                once that item is dead-lettered.
        """
        self.deaths = 1 if lived_s >= LONG_LIFE_S else self.deaths + 1
        if self.deaths == 1:
            return 0.0
        max_s = BACKOFF_FIRST_S if blamed else BACKOFF_MAX_S
        return backoff.ceiling_s(self.deaths - 1, BACKOFF_FIRST_S, max_s)


class SlotState(enum.Enum):
    """The state of a slot. ChildSlot.state computes it from the slot's attributes.

        from                         to           when
        EMPTY                        REGISTERING  (worker) its backoff is over, and the coordinator
                                                  is ordered to register a new consumer id
        EMPTY                        STARTING     (coordinator, service) its backoff is over
        REGISTERING                  STARTING     the coordinator has acknowledged
        REGISTERING                  EMPTY        a shutdown begins, or no process can be created
        STARTING                     SERVING      the child reports "ready"
        STARTING, SERVING            DRAINING     the child is asked to leave, or reports that it
                                                  leaves; it may still report "ready"
        STARTING, SERVING, DRAINING  EMPTY        the child is dead and was reaped

    A kill does not change the state; the death that follows does.
    """

    EMPTY = "waiting"
    REGISTERING = "registering"
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class ChildSlot:
    """One slot and its present child, if any."""

    def __init__(
        self,
        number: int,
        worker_end: socket.socket | None = None,
        service: Service | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """
        Args:
            number: 1..N for a worker or a service, 0 for the coordinator.
            worker_end: a worker's end of its socket to the coordinator.
            service: the kind of service; None for a worker or the coordinator.
            listener: the socket that a service's clients connect to, or that the coordinator
                serves metrics on; the slot closes it.
        """
        self.number = number
        self.role: Role = service or ("worker" if number else "coordinator")
        self.name = f"worker {number}" if self.role == "worker" else self.role
        self.listener = listener
        self.status = SharedStatus.create(f"status-{service or ''}{number}")
        self.supervisor_end, self.child_end = pair()
        self.worker_end = worker_end
        self.backoff = Backoff()
        self.restarts = -1
        """How many children the slot had after its first one."""
        self.due_at_s = 0.0
        """When the next child may start, by time.monotonic()."""
        self.generation = 0
        """The number of the child's configuration (Preload.generation)."""
        self.started_at = 0.0
        """When the child was started, in seconds since the epoch; for the status."""
        self.ended = ""
        """How the last child ended, such as "was killed by signal 9 (Killed)"; for the status."""
        self.ended_at = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget the child, which is dead or will not be started."""
        self.child: Child | None = None
        self.consumer = ""
        """The child's consumer id, from the order to register the id until the child's death."""
        self.registering = 0
        """The number of the order to register `consumer`, until the order is acknowledged."""
        self.leave_reason: LeaveReason | None = None
        self.leaving_since_s = 0.0
        self.kill_reason: KillReason | None = None
        self.limit_exceeded: LimitExceeded | None = None

    def renew(self) -> None:
        """Clear the shared status and all messages that the dead child has not read."""
        self.status.reset()
        discard(self.child_end)
        if self.worker_end is not None:
            discard(self.worker_end)

    def start(self, child: Child, generation: int) -> None:
        """Note that a child was started in this slot, with the configuration `generation`."""
        self.child = child
        self.generation = generation
        self.restarts += 1
        self.started_at = time.time()

    @property
    def state(self) -> SlotState:
        """See SlotState."""
        if self.child is None:
            return SlotState.REGISTERING if self.registering else SlotState.EMPTY
        if self.leave_reason is not None:
            return SlotState.DRAINING
        return SlotState.SERVING if self.child.ready else SlotState.STARTING

    @property
    def state_name(self) -> str:
        """The state for `conserver status`. For a serving child, it is that of its SharedStatus."""
        state = self.state
        return self.status.state.name.lower() if state is SlotState.SERVING else state.value

    @property
    def serving(self) -> bool:
        """Whether the child is ready and is not about to leave."""
        return self.state is SlotState.SERVING

    @property
    def ready_soon(self) -> bool:
        """Whether the slot has no ready child now, but is expected to have one soon.

        False for a slot whose children keep dying.
        """
        if self.child is not None:
            return not self.child.ready
        return self.backoff.deaths <= 1

    def drain(self, reason: LeaveReason, now_s: float, **fields: Any) -> None:
        """Ask the child to finish and exit, unless it is already leaving.

        If the child does not read its socket, it may lose the message. But then it has stalled, and
        the watchdog kills it.
        """
        if self.child is None or self.leave_reason is not None:
            return
        self.leaves(reason, now_s)
        send(self.supervisor_end, {"type": "drain", **fields})

    def leaves(self, reason: LeaveReason, now_s: float) -> None:
        """Note that the child drains and will exit."""
        self.leave_reason, self.leaving_since_s = reason, now_s

    def kill(self, reason: KillReason, limit_exceeded: LimitExceeded | None = None) -> None:
        """Kill the child. If it is killed twice, the first reason counts."""
        if self.child is None:
            return
        if self.kill_reason is None:
            self.kill_reason, self.limit_exceeded = reason, limit_exceeded
        self.child.kill()

    def death(self, exit_code: int | None) -> Death:
        """How the dead child has died."""
        view = self.status.read()
        return Death(exit_code, view, self.kill_reason, self.limit_exceeded, self.leave_reason)

    def close(self) -> None:
        """Release the shared status and the sockets."""
        self.status.close()
        for end in (self.supervisor_end, self.child_end, self.worker_end, self.listener):
            if end is not None:
                end.close()


class SharedResources:
    """All slots of one supervisor, the lifeline, and the id of the host in Redis.

    The lifeline is a pipe whose write end only the supervisor holds. When the supervisor ends, even
    by SIGKILL, every child reads end of file.
    """

    def __init__(
        self,
        workers: int,
        services: Sequence[ChildSlot] = (),
        metrics: socket.socket | None = None,
    ) -> None:
        """
        Args:
            workers: the number of workers.
            services: the slots of the services; `close` closes them, too.
            metrics: the socket that the coordinator serves metrics on.
        """
        self.host = os.urandom(8).hex()
        pairs = [pair() for _ in range(workers)]
        self._coordinator_ends = [coordinator_end for coordinator_end, _ in pairs]
        self.workers = [ChildSlot(number, ends[1]) for number, ends in enumerate(pairs, 1)]
        self.coordinator = ChildSlot(0, listener=metrics)
        self.services = list(services)
        self._lifeline, self._lifeline_write = os.pipe2(os.O_CLOEXEC)

    @property
    def slots(self) -> list[ChildSlot]:
        """All slots, the coordinator's first."""
        return [self.coordinator, *self.workers, *self.services]

    @property
    def statuses(self) -> tuple[SharedStatus, ...]:
        """All shared statuses."""
        return tuple(slot.status for slot in self.slots)

    def boot(
        self,
        slot: ChildSlot,
        config: Config,
        settings: Settings,
        transcribers: Sequence[str] = (),
        others: Sequence[SharedStatus] = (),
    ) -> Boot:
        """Everything that the next child in this slot gets.

        Args:
            transcribers: the addresses of this host's transcribers.
            others: the statuses of services and transcribers, for a child that serves metrics.
        """
        coordinates = slot is self.coordinator
        looks = coordinates or slot.role == "api"
        return Boot(
            role=slot.role,
            slot=slot.number,
            workers=len(self.workers),
            host=self.host,
            consumer=slot.consumer,
            config=config,
            settings=settings,
            supervisor=slot.child_end,
            coordinator=slot.worker_end,
            worker_ends=list(self._coordinator_ends) if coordinates else [],
            status=slot.status,
            statuses=[worker.status for worker in self.workers] if looks else [],
            other_statuses=list(others) if looks else [],
            lifeline=self._lifeline,
            listener=slot.listener,
            transcribers=list(transcribers),
        )

    def cut_lifeline(self) -> None:
        """Close the lifeline, so that the children exit as if the supervisor had died."""
        if self._lifeline_write >= 0:
            os.close(self._lifeline_write)
            self._lifeline_write = -1

    def close(self) -> None:
        """Release everything. No child may be left."""
        self.cut_lifeline()
        os.close(self._lifeline)
        for slot in self.slots:
            slot.close()
        for end in self._coordinator_ends:
            end.close()
