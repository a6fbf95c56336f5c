"""The supervisor: the set of children, and nothing else.

1. Starts the coordinator, has every worker registered by it, starts the workers.
2. Notices at once when a child dies, says whom that is blamed on, and fills the post again: at
   once the first time, later and later while its children keep dying.
3. Looks at the pages: kills who stands still or holds an item past its hard time limit.
4. Replaces workers as planned: after a reload (SIGHUP), or when they have had their ration.
5. Drains on SIGTERM or SIGINT within one deadline, and stops at once on a second one.

It has no Redis, no threads and no model: one selector over pidfds, sockets and the signal pipe.
What Redis has to be told it orders from the coordinator, and keeps each order until it is
acknowledged. The loop is: wait, hear, act; nothing in it waits for a child.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from dataclasses import dataclass
from functools import partial

from setproctitle import setproctitle

from conserver import failpoints
from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import EXIT_CHILD
from conserver.process.descriptors import Inherited, hold_standard_descriptors
from conserver.process.messages import receive
from conserver.process.signals import SignalInbox
from conserver.supervisor.child import Child, context_for
from conserver.supervisor.orders import Briefing, CommandQueue, about_us
from conserver.supervisor.preload import Preload, Reload
from conserver.supervisor.replacement import Replacement
from conserver.supervisor.resources import SharedResources
from conserver.supervisor.shutdown import Shutdown
from conserver.supervisor.slots import ChildSlot, Verdict, ending
from conserver.supervisor.watchdog import Watchdog
from conserver.telemetry import log

LEAVE_S_MAX = 3.0
"""How long children may take to leave after an error of the supervisor's own."""

START_TRIES_MAX = 3
"""How often the first start of a child is tried, if the system cannot make a process."""


@dataclass(frozen=True)
class Entries:
    """What the children run, as "module:function"; imported in the child."""

    worker: str = "conserver.worker.loop:main"
    coordinator: str = "conserver.coordinator:main"

    @property
    def modules(self) -> list[str]:
        """The modules of both."""
        return [entry.partition(":")[0] for entry in (self.worker, self.coordinator)]


OUR_ENTRIES = Entries()


def run(settings: Settings, config: Config, reload: Reload, entries: Entries = OUR_ENTRIES) -> int:
    """Run the household until it is told to stop.

    Args:
        settings: how many workers, by which start method, and all that the children need.
        config: the checked configuration.
        reload: reads settings and configuration again; raises ConfigError if they cannot be used.
            The number of workers and the start method stay as they are.
        entries: what the children run.

    Returns:
        The exit code: 0 after a stop, else that of the child that could not start.

    Raises:
        ConfigError: a link or storage is missing or its options are wrong; nothing was started.
    """
    failpoints.arm(os.environ)
    hold_standard_descriptors()
    setproctitle("conserver: supervisor")
    log.configure("supervisor", level=settings.log_level, shape=settings.log_format)
    supervisor = Supervisor(settings, config, reload, entries)
    try:
        return supervisor.run()
    finally:
        supervisor.close()


class Supervisor:
    """The set of children. Made, run and closed once."""

    def __init__(
        self, settings: Settings, config: Config, reload: Reload, entries: Entries
    ) -> None:
        self._log = log.get_logger()
        self._entries = entries
        self._method, self._context = context_for(settings.start_method)
        self._prepared = Preload(settings, config, reload, self._context, entries.modules)
        # Every descriptor from here on is the household's: a child sheds those it does not own.
        self._inbox = SignalInbox()
        self._selector = selectors.DefaultSelector()
        self._resources = SharedResources(settings.workers)
        self._coordinator = ChildSlot("coordinator", self._resources.coordinator)
        self._workers = [ChildSlot("worker", slot) for slot in self._resources.workers]
        self._posts = [self._coordinator, *self._workers]
        self._orders = CommandQueue()
        self._briefing = Briefing(self._orders, self._coordinator, self._workers)
        self._replacement = Replacement(self._coordinator, self._workers)
        self._watchdog = Watchdog(self._posts, self._replacement, time.monotonic())
        self._shutdown = Shutdown(self._coordinator, self._workers, self._orders)
        self._once_ready: set[str] = set()
        self._began_at = time.time()

    def run(self) -> int:
        """The loop, from the first child to the last. Returns the exit code."""
        self._selector.register(self._inbox, selectors.EVENT_READ, (0, self._take_signals))
        for post in self._posts:
            hear = partial(self._hear, post)
            self._selector.register(post.slot.ours, selectors.EVENT_READ, (1, hear))
        # Whoever started us may ignore it, and then the kernel would forget how children ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with self._inbox.listening():
            self._log.info(
                "supervisor_started",
                pid=os.getpid(),
                host=self._resources.host,
                workers=len(self._workers),
                start_method=self._method,
            )
            self._act(now_s := time.monotonic())
            while not self._shutdown.done:
                self._wait(now_s)
                self._act(now_s := time.monotonic())
        self._log.info("supervisor_stopped", exit_code=self._shutdown.exit_code)
        return self._shutdown.exit_code

    def close(self) -> None:
        """Leave no child behind, whatever happened.

        After an error of ours the children are still there: they see the end of the lifeline and
        give back what they hold, as if the supervisor had been killed.
        """
        self._resources.cut_lifeline()
        give_up_at_s = time.monotonic() + LEAVE_S_MAX
        for post in self._posts:
            if post.child is not None:
                if not post.child.wait(max(0.0, give_up_at_s - time.monotonic())):
                    post.child.kill()
                    post.child.wait(LEAVE_S_MAX)
                post.child.exit_code()
                post.child.close()
        self._selector.close()
        self._inbox.close()
        self._resources.close()

    def _act(self, now_s: float) -> None:
        settings, stopping = self._prepared.settings, self._shutdown.under_way
        self._watchdog.advance(settings, now_s, recycle=not stopping)
        if stopping:
            self._shutdown.advance(now_s)
        else:
            generation, patience_s = self._prepared.generation, settings.shutdown_timeout_s
            self._replacement.advance(generation, now_s, patience_s)
        self._fill_posts(now_s)
        state = "draining" if stopping else "running"
        us = about_us(state, self._prepared.generation, self._method, self._began_at)
        self._briefing.tell(us, now_s)

    def _wait(self, now_s: float) -> None:
        """Wait for an event or for the next moment to act; hear signals first and deaths last."""
        moments = [self._watchdog.due_at_s, *self._shutdown.moments()]
        moments += [post.due_at_s for post in self._posts if post.vacant and post.due_at_s > now_s]
        timeout_s = max(0.0, min(moments) - time.monotonic())
        ready = [key.data for key, _ in self._selector.select(timeout_s)]
        for _, hear in sorted(ready, key=lambda data: data[0]):
            hear()

    # What is heard.

    def _take_signals(self) -> None:
        self._inbox.clear()
        for number, at_s in self._inbox.take():
            if number != signal.SIGHUP:
                name = signal.Signals(number).name
                timeout_s = self._prepared.settings.shutdown_timeout_s
                self._shutdown.hear_signal(name, at_s, timeout_s)
            elif not self._shutdown.under_way:
                self._prepared.reload()

    def _hear(self, post: ChildSlot) -> None:
        """What a child says."""
        for message in receive(post.slot.ours):
            child = post.child
            if child is None:
                continue
            match message["type"]:
                case "ready":
                    child.ready = True
                    self._once_ready.add(post.role)
                    ready_ms = round((time.monotonic() - child.started_at_s) * 1000)
                    self._log.info("child_ready", child=post.name, pid=child.pid, ready_ms=ready_ms)
                case "failed":
                    child.failure = message["message"]
                    child.failure_code = message["exit_code"]
                case "void" | "retiring" as why:
                    post.farewell, post.farewell_at_s = why, time.monotonic()
                case "acknowledged":
                    self._hear_acknowledged(message["order"])
                case other:
                    self._log.error("unknown_message", child=post.name, type=other)

    def _hear_acknowledged(self, number: int) -> None:
        self._orders.acknowledge(number)
        for post in self._workers:
            if post.registering == number:
                post.registering = 0
                self._start(post)

    def _reap_child(self, post: ChildSlot) -> None:
        """A child is dead: report it, have its items returned, and let the post be filled."""
        child = post.child
        if child is None:
            return
        self._hear(post)  # Its last words.
        self._selector.unregister(child.pidfd)
        code = child.exit_code()
        failpoints.at("at-death")
        blame = post.blame(code)
        if post.role == "worker":
            self._orders.add("return", consumer=post.consumer, **blame)
        else:
            self._briefing.forget()
        self._report(post, child, code, post.blamed_vcons(blame))
        lived_s = time.monotonic() - child.started_at_s
        wait_s = 0.0
        if not post.left_as_planned(code):
            wait_s = post.backoff.after_s(lived_s, blamed=bool(blame["items"]))
        post.due_at_s = time.monotonic() + wait_s
        child.close()
        post.vacate()

    def _report(self, post: ChildSlot, child: Child, code: int | None, blamed: list[str]) -> None:
        """Log a death; before anybody of its role was ready it is the end of all."""
        if post.role not in self._once_ready and not self._shutdown.under_way:
            reason = child.failure or f"it {ending(code)} before it was ready"
            self._fail_boot(post, reason, child.failure_code)
        elif post.crashed(code):
            reason = child.failure or f"it {ending(code)}"
            self._log.warning(
                "child_died", child=post.name, pid=child.pid, reason=reason, blamed=blamed
            )
        else:
            killed = "" if post.verdict is Verdict.NONE else post.verdict.value
            why = post.farewell or killed or "of its own will"
            self._log.info("child_ended", child=post.name, pid=child.pid, why=why)

    def _fail_boot(self, post: ChildSlot, reason: str, exit_code: int) -> None:
        """The first child of its role cannot start: another would not either, so all ends."""
        self._log.error("boot_failed", child=post.name, reason=reason)
        self._shutdown.fail(exit_code, time.monotonic())

    # What is done about it.

    def _fill_posts(self, now_s: float) -> None:
        """Start the coordinator if there is none, and have new consumers registered by it."""
        coordinator = self._coordinator
        if (
            coordinator.vacant
            and now_s >= coordinator.due_at_s
            and self._shutdown.wants_coordinator(now_s)
        ):
            self._start(coordinator)
        if self._shutdown.under_way or not coordinator.serving:
            return
        for post in self._workers:
            if post.vacant and now_s >= post.due_at_s:
                # From the kernel's randomness, never from a generator that a fork could copy.
                post.consumer = os.urandom(8).hex()
                post.registering = self._orders.add(
                    "register",
                    consumer=post.consumer,
                    slot=post.slot.number,
                    lists=list(self._prepared.config.ingress),
                )

    def _start(self, post: ChildSlot) -> None:
        post.slot.renew()
        prepared = self._prepared
        boot = self._resources.boot(post.slot, post.consumer, prepared.config, prepared.settings)
        entry = self._entries.worker if post.role == "worker" else self._entries.coordinator
        inherited = None
        if self._method == "fork":
            inherited = Inherited(prepared.from_before, self._resources.statuses)
        child = Child(self._context, entry, boot, inherited)
        try:
            child.start()
        except (OSError, EOFError) as error:
            self._fail_start(post, f"{type(error).__name__}: {error}")
            return
        post.fill(child, prepared.generation, prepared.settings)
        reap = partial(self._reap_child, post)
        self._selector.register(child.pidfd, selectors.EVENT_READ, (2, reap))

    def _fail_start(self, post: ChildSlot, reason: str) -> None:
        """No process came of it: no memory, no process ids left, a forkserver that just died."""
        self._log.warning("start_failed", child=post.name, reason=reason)
        if post.consumer:
            self._orders.add("return", consumer=post.consumer, **post.blame(0))
        post.vacate()
        post.due_at_s = time.monotonic() + post.backoff.after_s(0.0)
        tried_enough = post.backoff.deaths >= START_TRIES_MAX
        if tried_enough and post.role not in self._once_ready and not self._shutdown.under_way:
            self._fail_boot(post, reason, EXIT_CHILD)
