"""The inspection: the supervisor's look at the pages, and what follows from it.

Who stands still is killed, and suspected with what it had running. Who holds an item past a hard
time limit is killed, and that item alone is counted. Who has used up its ration is asked to leave.
"""

from __future__ import annotations

from collections.abc import Sequence

from conserver import log
from conserver.clocks import LookClock, Overdue
from conserver.posts import Post, Verdict
from conserver.process import Child
from conserver.rotation import Rotation
from conserver.settings import Settings

LOOK_S = 0.5
"""How often the pages are looked at: a time limit is kept to within two looks."""


class Inspection:
    """Looks at all pages every LOOK_S."""

    def __init__(self, posts: Sequence[Post], rotation: Rotation, now_s: float) -> None:
        self.due_at_s = now_s
        """When the next look is due, by time.monotonic()."""
        self._posts = posts
        self._rotation = rotation
        self._clock = LookClock(now_s)
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
            view = post.slot.page.read()
            overdue = post.clocks.look(view, passed_s)
            if overdue is not None:
                self._kill_overdue(post, child, overdue)
            elif post.clocks.held_up or post.clocks.stalled_s >= _stall_s_max(child, settings):
                self._kill_stalled(post, child)
            elif recycle and post.role == "worker":
                self._rotation.recycle(post, view, now_s, settings.shutdown_timeout_s)

    def _kill_overdue(self, post: Post, child: Child, overdue: Overdue) -> None:
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

    def _kill_stalled(self, post: Post, child: Child) -> None:
        stalled_s = round(post.clocks.stalled_s, 1)
        self._log.warning("child_stalled", child=post.name, pid=child.pid, stalled_s=stalled_s)
        post.kill(Verdict.STALLED)


def _stall_s_max(child: Child, settings: Settings) -> float:
    """A child that is still importing cannot stamp its page: it has the time of a boot too."""
    if child.ready:
        return settings.stall_timeout_s
    return max(settings.stall_timeout_s, settings.boot_timeout_s)
