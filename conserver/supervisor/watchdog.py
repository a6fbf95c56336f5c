"""The inspection: the supervisor's look at the pages, and what follows from it.

Who stands still is killed, and suspected with what it had running. Who holds an item past a hard
time limit is killed, and that item alone is counted. Who has used up its ration is asked to leave.
"""

from __future__ import annotations

from collections.abc import Sequence

from conserver.config.settings import Settings
from conserver.supervisor.child import Child
from conserver.supervisor.replacement import Replacement
from conserver.supervisor.slots import ChildSlot, Verdict
from conserver.supervisor.time_limits import Overdue, WatchdogClock
from conserver.telemetry import log

LOOK_S = 0.5
"""How often the pages are looked at: a time limit is kept to within two looks."""


class Watchdog:
    """Looks at all pages every LOOK_S."""

    def __init__(self, posts: Sequence[ChildSlot], replacement: Replacement, now_s: float) -> None:
        self.due_at_s = now_s
        """When the next look is due, by time.monotonic()."""
        self._posts = posts
        self._replacement = replacement
        self._clock = WatchdogClock(now_s)
        self._log = log.get_logger()

    def advance(self, settings: Settings, now_s: float, *, recycle: bool) -> None:
        """Look, if it is time to.

        Args:
            settings: the limits.
            now_s: time.monotonic().
            recycle: whether a worker may be asked to leave because of its ration.
        """
        if now_s < self.due_at_s:
            return
        self.due_at_s = now_s + LOOK_S
        passed_s = self._clock.passed_s(now_s)
        for post in self._posts:
            child = post.child
            if child is None or post.verdict is not Verdict.NONE:
                continue
            view = post.slot.status.read()
            overdue = post.time_limits.look(view, passed_s)
            if overdue is not None:
                self._kill_overdue(post, child, overdue)
            elif post.time_limits.held_up or post.time_limits.stalled_s >= _stall_s_max(
                child, settings
            ):
                self._kill_stalled(post, child)
            elif recycle and post.role == "worker":
                self._replacement.recycle(post, view, now_s, settings.shutdown_timeout_s)

    def _kill_overdue(self, post: ChildSlot, child: Child, overdue: Overdue) -> None:
        item = overdue.item
        self._log.warning(
            "hard_time_limit_passed",
            child=post.name,
            pid=child.pid,
            vcon=item.uuid,
            chain=item.chain,
            link=item.link,
            reason=overdue.reason,
        )
        post.kill(Verdict.OVERDUE, overdue)

    def _kill_stalled(self, post: ChildSlot, child: Child) -> None:
        stalled_s = round(post.time_limits.stalled_s, 1)
        self._log.warning("child_stalled", child=post.name, pid=child.pid, stalled_s=stalled_s)
        post.kill(Verdict.STALLED)


def _stall_s_max(child: Child, settings: Settings) -> float:
    """A child that is still importing cannot stamp its page: it has the time of a boot too."""
    if child.ready:
        return settings.stall_timeout_s
    return max(settings.stall_timeout_s, settings.boot_timeout_s)
