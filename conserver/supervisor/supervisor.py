"""The supervisor's main loop over the children of one host.

1. Starts the coordinator, lets it register a consumer id for every worker, and starts the workers.
2. Notices a child's death at once, decides which items are blamed for it (death.py), and starts a
   replacement: at once after a first death, with a backoff (slots.py) if the slot's children keep
   dying.
3. Kills stalled children, and workers with an item past a hard time limit (watchdog.py).
4. Replaces workers as planned: after a reload (SIGHUP), or to recycle them (replacement.py).
5. Shuts down on SIGTERM or SIGINT (shutdown.py).

The supervisor does not connect to Redis: it orders the coordinator to act there (orders.py). It has
no threads, but one selector over pidfds, sockets and the signal pipe. The loop waits, receives and
acts; it never blocks on a child.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import time
from dataclasses import asdict
from functools import partial

from setproctitle import setproctitle

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import EXIT_CHILD, BootError
from conserver.process import failpoints, listening
from conserver.process.boot import HELPERS
from conserver.process.descriptors import Inherited, hold_standard_descriptors
from conserver.process.messages import Blame, receive
from conserver.process.service_manager import ServiceManager
from conserver.process.signals import SignalInbox
from conserver.supervisor.child import Child, context_for
from conserver.supervisor.death import Death, LeaveReason, describe_exit
from conserver.supervisor.entries import (
    OUR_ENTRIES,
    Entries,
    Listener,
    Services,
    no_listener,
    no_services,
)
from conserver.supervisor.helpers import Helpers
from conserver.supervisor.orders import CoordinatorUpdates, OrderQueue, supervisor_state
from conserver.supervisor.page_readers import PageReaderSlot
from conserver.supervisor.preload import Preload, Reload
from conserver.supervisor.replacement import Replacement
from conserver.supervisor.shutdown import Shutdown, Stage
from conserver.supervisor.slots import ChildSlot, SharedResources, SlotState
from conserver.supervisor.transcribers import TranscriberSlot
from conserver.supervisor.watchdog import Watchdog
from conserver.telemetry import log

ORPHANS_EXIT_MAX_S = 3.0
"""How long children may take to exit after an internal error of the supervisor."""

ENDED_CHARS_MAX = 200
"""A child's exit reason in the status is cut to this length, because messages are bounded."""

START_TRIES_MAX = 3
"""How often the first start of a child is tried if the system cannot create a process."""


def run(
    settings: Settings,
    config: Config,
    reload: Reload,
    entries: Entries = OUR_ENTRIES,
    services: Services = no_services,
    metrics: Listener = no_listener,
) -> int:
    """Run the supervisor and its children until it is told to stop.

    Args:
        settings: the number of workers, the start method, and the settings of the children.
        config: the checked configuration.
        reload: reads settings and configuration again; raises ConfigError if they cannot be used.
            The number of workers and the start method stay as they are.
        entries: the entry functions of the children.
        services: makes the slots of the services. Called once, before any child is started.
        metrics: makes the socket for metrics. Called once, before any child is started.

    Returns:
        The exit code: 0 after a stop, or that of the child that could not start.

    Raises:
        ConfigError: a link or storage is missing or its options are wrong; nothing was started.
        BootError: a service cannot listen on its address, or the operating system does not allow
            as many open files as the workers need; nothing was started.
    """
    failpoints.arm(os.environ)
    hold_standard_descriptors()
    setproctitle("conserver: supervisor")
    log.configure("supervisor", level=settings.log_level, shape=settings.log_format)
    try:
        supervisor = Supervisor(settings, config, reload, entries, services, metrics)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        raise BootError(
            f"{settings.workers} workers need more open files than the operating system allows: "
            f"{error} (raise `ulimit -n`)"
        ) from error
    try:
        return supervisor.run()
    finally:
        supervisor.close()


class Supervisor:
    """All children of one host. Made, run and closed once."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        reload: Reload,
        entries: Entries,
        services: Services = no_services,
        metrics: Listener = no_listener,
    ) -> None:
        self._log = log.get_logger()
        self._entries = entries
        self._method, self._context = context_for(settings.start_method)
        self._preload = Preload(settings, config, reload, self._context, entries.modules)
        # Descriptors opened from here on are the supervisor's own: a forked child closes them.
        self._inbox = SignalInbox()
        self._selector = selectors.DefaultSelector()
        self._resources = SharedResources(settings.workers, services(settings), metrics(settings))
        self._helpers = Helpers(settings, self._preload, os.environ)
        self._slots: list[ChildSlot] = [*self._resources.slots, *self._helpers.slots]
        self._coordinator, self._workers = self._resources.coordinator, self._resources.workers
        self._orders = OrderQueue()
        self._services = self._resources.services
        others = [*self._services, *self._helpers.slots]
        self._updates = CoordinatorUpdates(self._orders, self._coordinator, self._workers, others)
        self._measured = [*self._services, *self._helpers.transcribers]
        self._replacement = Replacement(self._coordinator, self._workers, self._services)
        self._watchdog = Watchdog(self._slots, self._replacement, time.monotonic())
        self._shutdown = Shutdown(self._coordinator, self._workers, self._orders, self._services)
        self._once_ready: set[str] = set()
        """The roles that have had a ready child."""
        self._began_at = time.time()
        self._service_manager = ServiceManager()

    def run(self) -> int:
        """Loop from the first child to the last. Returns the exit code."""
        self._selector.register(self._inbox, selectors.EVENT_READ, (0, self._take_signals))
        for slot in self._slots:
            receive_from = partial(self._receive, slot)
            self._selector.register(slot.supervisor_end, selectors.EVENT_READ, (1, receive_from))
        # A parent that ignores SIGCHLD passes this on. The kernel would then discard the exit
        # status of this process's children.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with self._inbox.listening():
            self._log.info(
                "supervisor_started",
                pid=os.getpid(),
                host=self._resources.host,
                name=socket.gethostname(),
                workers=len(self._workers),
                start_method=self._method,
            )
            self._act(now_s := time.monotonic())
            while self._shutdown.stage is not Stage.DONE:
                self._wait(now_s)
                self._act(now_s := time.monotonic())
        self._log.info("supervisor_stopped", exit_code=self._shutdown.exit_code)
        return self._shutdown.exit_code

    def close(self) -> None:
        """Release everything, and leave no child behind. After an internal error children still
        run: they see the end of the lifeline and exit, as if the supervisor had been killed.
        """
        self._resources.cut_lifeline()
        deadline_s = time.monotonic() + ORPHANS_EXIT_MAX_S
        for slot in self._slots:
            if slot.child is not None:
                if not slot.child.wait(max(0.0, deadline_s - time.monotonic())):
                    slot.child.kill()
                    slot.child.wait(ORPHANS_EXIT_MAX_S)
                slot.child.exit_code()
                slot.child.close()
        self._selector.close()
        self._inbox.close()
        self._resources.close()
        self._helpers.close()

    # Wait.

    def _wait(self, now_s: float) -> None:
        """Wait for events, or until the next action is due. Then handle the events: signals first,
        messages next, deaths last.
        """
        due_s = [self._watchdog.due_at_s, *self._shutdown.deadlines()]
        empty = (slot for slot in self._slots if slot.state is SlotState.EMPTY)
        due_s += [slot.due_at_s for slot in empty if slot.due_at_s > now_s]
        timeout_s = max(0.0, min(due_s) - time.monotonic())
        ready = [key.data for key, _ in self._selector.select(timeout_s)]
        for _, handle in sorted(ready, key=lambda data: data[0]):
            handle()

    # Receive.

    def _take_signals(self) -> None:
        self._inbox.clear()
        for number, at_s in self._inbox.take():
            if number != signal.SIGHUP:
                name = signal.Signals(number).name
                timeout_s = self._preload.settings.shutdown_timeout_s
                self._shutdown.on_signal(name, at_s, timeout_s)
            elif not self._shutdown.in_progress:
                self._preload.reload()

    def _receive(self, slot: ChildSlot) -> None:
        """Handle the messages of a child (process/messages.py)."""
        for message in receive(slot.supervisor_end):
            child = slot.child
            if child is None:
                continue
            match message["type"]:
                case "ready":
                    child.ready = True
                    self._once_ready.add(slot.role)
                    ready_ms = round((time.monotonic() - child.started_at_s) * 1000)
                    self._log.info("child_ready", child=slot.name, pid=child.pid, ready_ms=ready_ms)
                case "failed":
                    child.failure = message["message"]
                    child.failure_code = message["exit_code"]
                case "void" | "retiring" as reason:
                    slot.leaves(LeaveReason(reason), time.monotonic())
                case "acknowledged":
                    self._acknowledged(message["order"])
                case "recycle":
                    if not self._shutdown.in_progress:
                        self._replacement.ask(message["slot"], message["consumer"])
                case "reload":
                    if not self._shutdown.in_progress:
                        self._preload.reload(message["request"])
                case other:
                    self._log.error("unknown_message", child=slot.name, type=other)

    def _acknowledged(self, order: int) -> None:
        self._orders.acknowledge(order)
        for slot in self._workers:
            if slot.registering == order:
                slot.registering = 0
                self._start(slot)

    def _reap(self, slot: ChildSlot) -> None:
        """Handle a child's death: order the return of its items, log it, and clear the slot."""
        child = slot.child
        if child is None:
            return
        self._receive(slot)  # its last messages
        self._selector.unregister(child.pidfd)
        death = slot.death(child.exit_code())
        failpoints.at("at-death")
        blame = death.blame()
        if isinstance(slot, TranscriberSlot):
            slot.note(death, self._selector)
        elif slot.role == "worker":
            empty = death.left_nothing
            self._orders.add("return", consumer=slot.consumer, blame=asdict(blame), empty=empty)
        elif slot.role == "coordinator":
            self._updates.restart()
            if death.leave_reason is LeaveReason.SHUTDOWN and not death.crashed:
                self._shutdown.coordinator_ended()
        self._report(slot, child, death)
        slot.ended, slot.ended_at = death.summary(child.failure)[:ENDED_CHARS_MAX], time.time()
        backoff_s = 0.0
        if not death.spares_backoff:
            lived_s = time.monotonic() - child.started_at_s
            # If a page reader dies after it was ready, its page is to blame. The backoff is short,
            # because no page is tried more than twice.
            died_of_page = isinstance(slot, PageReaderSlot) and child.ready
            blamed = bool(blame.items) or died_of_page
            backoff_s = slot.backoff.after_s(lived_s, blamed=blamed)
        slot.due_at_s = time.monotonic() + backoff_s
        if backoff_s and not child.ready:
            self._close_port(slot)
        child.close()
        slot.clear()

    def _close_port(self, slot: ChildSlot) -> None:
        """Refuse connections to the slot's TCP port, because its child could not start, and perhaps
        no child will ever answer there. The next child listens again.
        """
        if slot.listener is None or slot.role in HELPERS or self._shutdown.in_progress:
            return
        if listening.stop(slot.listener):
            what = f"it refuses connections until the next {slot.name} serves it"
            port = slot.listener.getsockname()[1]
            self._log.warning("port_closed", child=slot.name, port=port, what=what)

    def _report(self, slot: ChildSlot, child: Child, death: Death) -> None:
        """Log a death. If no child of its role was ever ready, fail the boot."""
        how = describe_exit(death.exit_code)
        if self._boot_depends_on(slot):
            reason = child.failure or f"it {how} before it was ready"
            self._fail_boot(slot, reason, child.failure_code)
        elif death.crashed:
            reason, blamed = child.failure or f"it {how}", death.blamed_vcons()
            self._log.warning(
                "child_died", child=slot.name, pid=child.pid, reason=reason, blamed=blamed
            )
        else:
            left_or_killed = death.leave_reason or death.kill_reason
            why = left_or_killed.value if left_or_killed else "by itself"
            self._log.info("child_ended", child=slot.name, pid=child.pid, why=why)

    def _boot_depends_on(self, slot: ChildSlot) -> bool:
        """Whether a death in this slot fails the boot: no child of its role was ever ready.

        The death of a helper never does: a GPU may come back, and chains without helpers go on.
        """
        first = slot.role not in self._once_ready and slot.role not in HELPERS
        return first and not self._shutdown.in_progress

    def _fail_boot(self, slot: ChildSlot, reason: str, exit_code: int) -> None:
        """Stop: the first child of a role could not start, and a second one would fail as well."""
        self._log.error("boot_failed", child=slot.name, reason=reason)
        self._shutdown.fail(exit_code, time.monotonic())

    # Act.

    def _act(self, now_s: float) -> None:
        preload, stopping = self._preload, self._shutdown.in_progress
        settings, generation = preload.settings, preload.generation
        ready = {slot.role for slot in self._slots} - HELPERS <= self._once_ready
        self._service_manager.tell(now_s, ready=ready, stopping=stopping)
        self._watchdog.advance(settings, now_s, recycle=not stopping)
        if stopping:
            self._shutdown.advance(now_s)
        else:
            self._replacement.advance(generation, now_s, settings.shutdown_timeout_s)
        self._start_missing(now_s)
        state = "draining" if stopping else "running"
        ours = supervisor_state(state, generation, self._method, self._began_at)
        ours["configured_at"] = round(preload.accepted_at, 3)
        if preload.last_reload is not None:
            ours["reload"] = preload.last_reload._asdict()
        self._updates.send_due(ours | self._helpers.state(), now_s)

    def _start_missing(self, now_s: float) -> None:
        """Start the coordinator, services and helpers that are missing, and order the registration
        of missing workers. `_acknowledged` starts them.
        """
        coordinator = self._coordinator
        if _due(coordinator, now_s) and self._shutdown.needs_coordinator(now_s):
            self._start(coordinator)
        for slot in self._services:
            if _due(slot, now_s) and not self._shutdown.in_progress:
                self._start(slot)
        # Workers need the transcribers and the page readers while they drain.
        if self._shutdown.stage in (Stage.NONE, Stage.DRAINING):
            for helper in self._helpers.needed:
                if _due(helper, now_s):
                    self._start(helper)
        if self._shutdown.in_progress or not coordinator.serving:
            return
        for slot in self._workers:
            if _due(slot, now_s):
                # os.urandom, because a fork would copy the state of a random number generator.
                slot.consumer = os.urandom(8).hex()
                slot.registering = self._orders.add(
                    "register",
                    consumer=slot.consumer,
                    slot=slot.number,
                    lists=list(self._preload.served.ingress),
                )

    def _start(self, slot: ChildSlot) -> None:
        slot.renew()
        preload = self._preload
        settings, config = preload.settings, preload.config
        if slot.role in ("worker", "coordinator"):
            config = preload.served
        if slot.role == "worker":
            settings, config = self._helpers.for_workers(settings, config)
        others = [one.status for one in self._measured] if preload.settings.measures else []
        boot = self._resources.boot(slot, config, settings, self._helpers.addresses, others)
        self._helpers.equip(boot, slot)
        context, inherited = self._context, None
        if slot.role in HELPERS:
            context = context_for("spawn")[1]
        elif self._method == "fork":
            statuses = tuple(one.status for one in self._slots)
            inherited = Inherited(preload.preexisting, statuses)
        child = Child(context, self._entries.of(slot.role), boot, inherited)
        try:
            child.start()
        except (OSError, EOFError) as error:
            self._fail_start(slot, f"{type(error).__name__}: {error}")
            return
        slot.start(child, preload.generation)
        reap = partial(self._reap, slot)
        self._selector.register(child.pidfd, selectors.EVENT_READ, (2, reap))

    def _fail_start(self, slot: ChildSlot, reason: str) -> None:
        """Handle a start that created no process: there is no memory or no free pid, or the
        forkserver has just died.
        """
        self._log.warning("start_failed", child=slot.name, reason=reason)
        if slot.consumer:
            consumer, blame = slot.consumer, asdict(Blame())
            self._orders.add("return", consumer=consumer, blame=blame, empty=True)
        slot.clear()
        backoff_s = slot.backoff.after_s(0.0)
        slot.due_at_s = time.monotonic() + backoff_s
        if backoff_s:
            self._close_port(slot)
        tried_enough = slot.backoff.deaths >= START_TRIES_MAX
        if tried_enough and self._boot_depends_on(slot):
            self._fail_boot(slot, reason, EXIT_CHILD)


def _due(slot: ChildSlot, now_s: float) -> bool:
    """Whether a child is missing and its backoff is over."""
    return slot.state is SlotState.EMPTY and now_s >= slot.due_at_s
