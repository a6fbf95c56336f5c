"""How a child died, which items are blamed for it, and against which items the death counts.

    how the worker died                  blamed items                        death counts against
    crash, or killed by someone else     those at work (below)               a suspect that ran
                                                                             alone, else no item
    killed: it stalled                   those at work                       a suspect that ran
                                                                             alone, else no item
    killed: hard time limit of an item   that item                           that item
    killed: no longer needed             none                                no item
    exit code 0, no item at work         none                                no item
    its registration was void            none, its items were returned       no item
    with its host (reaper.py)            all that it held                    a suspect that ran
                                                                             alone, else no item

An item is at work (Phase.at_work) if a link runs it, if its document is parsed, if its document is
fetched alone (not in a batch), or if it waits for Redis or for a storage.

A blamed item becomes a suspect: it runs alone from then on. With `max_deliveries` counted deaths it
is dead-lettered. The item's record says whether the item is a suspect, and how many deaths were
counted; queue/return.lua writes both.
"""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass
from typing import Literal

from conserver.process.messages import Blame, Blamed
from conserver.process.shared_status import Phase, StatusItem, StatusView


class KillReason(enum.Enum):
    """Why the supervisor has killed a child."""

    STALLED = "stalled"
    TIME_LIMIT = "time_limit"
    UNNEEDED = "no longer needed"
    """At a shutdown or a planned replacement."""


class LeaveReason(enum.Enum):
    """Why a child drains and exits. With the first three, the supervisor has asked it to."""

    SHUTDOWN = "shutdown"
    RELOAD = "reload"
    RECYCLING = "recycling"
    VOID = "void"
    """The child reports that its registration is void."""
    RETIRING = "retiring"
    """The child reports a reason of its own, such as storage calls that hang."""


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """An item that has passed a hard time limit: that of its running link, or that of its chain."""

    item: StatusItem
    scope: Literal["link", "chain"]
    limit_s: float

    @property
    def reason(self) -> str:
        """What has happened, as a clause for logs and dead letters."""
        item = self.item
        if self.scope == "link":
            return f"the link {item.link} ran longer than its hard_timeout_s of {self.limit_s:g} s"
        return (
            f"the links of the chain {item.chain} ran longer than its hard_timeout_s of"
            f" {self.limit_s:g} s, the last of them {item.link}"
        )


@dataclass(frozen=True, slots=True)
class Death:
    """The death of one child."""

    exit_code: int | None
    """Negative for a signal; None if it is unknown."""
    view: StatusView
    """The child's shared status at its death."""
    kill_reason: KillReason | None = None
    """None if the supervisor has not killed the child."""
    limit_exceeded: LimitExceeded | None = None
    """The time limit that the child was killed for, if any."""
    leave_reason: LeaveReason | None = None
    """None if the child was not about to leave."""

    @property
    def crashed(self) -> bool:
        """Whether the child died unexpectedly: without a kill by the supervisor or a clean exit.

        If items are blamed, exit code 0 is a crash as well: a link has called os._exit(0).
        """
        if self.kill_reason is not None or self.leave_reason is LeaveReason.VOID:
            return False
        return self.exit_code != 0 or bool(self._blamed_items())

    @property
    def left_nothing(self) -> bool:
        """Whether the worker has ended by itself and held no item, as far as it knew."""
        return self.exit_code == 0 and self.kill_reason is None and not self.view.items

    @property
    def spares_backoff(self) -> bool:
        """Whether this death adds nothing to the slot's backoff, which delays the replacement.

        True after:

        - a reload;
        - a kill for a hard time limit: each such death counts, so the item is soon dead-lettered;
        - recycling or retiring, if the worker has finished an item. Otherwise a memory limit that
          is too low for an idle worker would cause a tight restart loop.
        """
        if self.kill_reason is KillReason.TIME_LIMIT:
            return True
        if self.crashed or self.kill_reason is KillReason.STALLED:
            return False
        if self.leave_reason in (LeaveReason.RECYCLING, LeaveReason.RETIRING):
            return self.view.items_done + self.view.items_failed > 0
        return self.leave_reason is LeaveReason.RELOAD

    def blame(self) -> Blame:
        """Which items are blamed for the death."""
        if self.limit_exceeded is not None:
            item = self.limit_exceeded.item
            note = {"reason": "time_limit", **_note(item, self._how)}
            return Blame("items", [Blamed(item.token, item.epoch, True, note)])
        if not self.crashed and self.kill_reason is not KillReason.STALLED:
            return Blame()
        items = [
            Blamed(item.token, item.epoch, False, _note(item, f"{self._how} {_doing(item)}"))
            for item in self._blamed_items()
        ]
        # The kind is "items" even if there are none: begin.lua may have marked a suspect that the
        # shared status does not show yet. return.lua then counts this death for it.
        return Blame("items", items, {"error": self._how})

    def summary(self, failure: str) -> str:
        """Why the child ended, for the status. failure: the reason that the child has reported."""
        if self.kill_reason in (KillReason.STALLED, KillReason.TIME_LIMIT):
            return self._how
        if not self.crashed and self.leave_reason is not None:
            return f"ended as planned: {self.leave_reason.value}"
        return failure or self._how

    @property
    def _how(self) -> str:
        if self.limit_exceeded is not None:
            return f"was killed because {self.limit_exceeded.reason}"
        if self.kill_reason is KillReason.STALLED:
            return "was killed because it stood still"
        return describe_exit(self.exit_code)

    def blamed_vcons(self) -> list[str]:
        """The uuids of the blamed items; the token of an item whose uuid is not known yet."""
        uuids = {item.token: item.uuid for item in self.view.items}
        return [uuids.get(item.token) or item.token for item in self.blame().items]

    def _blamed_items(self) -> list[StatusItem]:
        return [item for item in self.view.items if item.phase.at_work]


def describe_exit(code: int | None) -> str:
    """How a process ended, as a predicate whose subject is "it" or "its worker"."""
    if code is None:
        return "ended with an unknown exit code"
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"


def _note(item: StatusItem, how: str) -> dict[str, str]:
    """The note on this death that a blamed item keeps, for its dead letter."""
    in_link = item.link and item.phase is not Phase.FINISHING
    return {"error": how, "link": item.link} if in_link else {"error": how}


def _doing(item: StatusItem) -> str:
    if item.phase is Phase.FINISHING:
        return "while it waited for a storage or for Redis"
    return f"in the link {item.link}" if item.link else "while its document was read"
