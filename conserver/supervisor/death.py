"""How a child died, and which items are blamed for it.

    how the worker died                  items blamed                           death counted
    crash, or killed by someone else     those in a link or a storage, or       for a suspect that
                                         being read or parsed (Phase.blamed)    ran alone
    killed: it stalled                   the same                               the same
    killed: hard time limit of an item   that item alone                        for that item
    killed: no longer needed             none                                   no
    exit code 0, no item being worked on none                                   no
    its registration was void            none: its items were returned before   no

Blame makes an item a suspect, which runs alone from then on. Only a counted death adds to the
item's deaths (queue/return.lua): with `max_deliveries` of them the item is dead-lettered.
"""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass
from typing import Literal

from conserver.process.messages import Blame
from conserver.process.shared_status import Phase, StatusItem, StatusView


class KillReason(enum.Enum):
    """Why the supervisor has killed a child."""

    STALLED = "stalled"
    TIME_LIMIT = "time_limit"
    UNNEEDED = "no longer needed"
    """A shutdown or a planned replacement."""


class LeaveReason(enum.Enum):
    """Why a child drains and exits. The supervisor asks it to, except for the last two."""

    SHUTDOWN = "shutdown"
    RELOAD = "reload"
    RECYCLING = "recycling"
    VOID = "void"
    """The child reports that its registration is void."""
    RETIRING = "retiring"
    """The child reports a reason of its own, such as calls of a storage that hang."""


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """An item that has passed a hard time limit: the one of its running link, or of its chain."""

    item: StatusItem
    scope: Literal["link", "chain"]
    limit_s: float

    @property
    def reason(self) -> str:
        """What has happened, as a clause."""
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
    """What the child showed at the end."""
    kill_reason: KillReason | None = None
    """None: the supervisor has not killed it."""
    limit_exceeded: LimitExceeded | None = None
    """The time limit it was killed for."""
    leave_reason: LeaveReason | None = None
    """None: it was not about to leave."""

    @property
    def crashed(self) -> bool:
        """Whether it died unexpectedly: not killed by the supervisor, and not by a clean exit.

        Exit code 0 with items being worked on is a crash: a link has called os._exit(0).
        """
        if self.kill_reason is not None or self.leave_reason is LeaveReason.VOID:
            return False
        return self.exit_code != 0 or bool(self._blamed_items())

    @property
    def planned(self) -> bool:
        """Whether its replacement may start without backoff.

        True after a time limit, because each such death is counted and an item has few, and after a
        planned replacement. A worker that left because of its limits or by itself must have
        finished an item: with a memory limit too low for an idle worker it would otherwise restart
        in a tight loop.
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
            item, how = self.limit_exceeded.item, f"was killed because {self.limit_exceeded.reason}"
            note = {"reason": "time_limit", **_note(item, how)}
            return Blame("items", [(item.token, item.epoch)], [item.token], {item.token: note})
        if not self.crashed and self.kill_reason is not KillReason.STALLED:
            return Blame()
        how = describe_exit(self.exit_code)
        if self.kill_reason is KillReason.STALLED:
            how = "was killed because it stood still"
        blamed = self._blamed_items()
        notes = {item.token: _note(item, f"{how} {_doing(item)}") for item in blamed}
        # "items" even if none is blamed here. Redis may know of a suspect that has begun before the
        # shared status shows it: return.lua then counts this death for the suspect, with the note
        # of the key "".
        items = [(item.token, item.epoch) for item in blamed]
        return Blame("items", items, notes={"": {"error": how}, **notes})

    def told(self, failure: str) -> str:
        """Why it ended, for the status. failure: what the child itself has reported."""
        if self.limit_exceeded is not None:
            return f"was killed because {self.limit_exceeded.reason}"
        if self.kill_reason is KillReason.STALLED:
            return "was killed because it stood still"
        if not self.crashed and self.leave_reason is not None:
            return f"ended as planned: {self.leave_reason.value}"
        return failure or describe_exit(self.exit_code)

    def blamed_vcons(self) -> list[str]:
        """The uuids of the blamed items; the token of an item whose uuid is not known yet."""
        uuids = {item.token: item.uuid for item in self.view.items}
        return [uuids.get(token) or token for token, _epoch in self.blame().items]

    def _blamed_items(self) -> list[StatusItem]:
        return [item for item in self.view.items if item.phase.blamed]


def describe_exit(code: int | None) -> str:
    """How a process ended, as a predicate whose subject is "it" or "its worker"."""
    if code is None:
        return "ended, nobody knows how,"
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"


def _note(item: StatusItem, how: str) -> dict[str, str]:
    """What the item's dead letter will say about this death, if it becomes one."""
    in_link = item.link and item.phase is not Phase.FINISHING
    return {"error": how, "link": item.link} if in_link else {"error": how}


def _doing(item: StatusItem) -> str:
    if item.phase is Phase.FINISHING:
        return "while it waited for a storage or for Redis"
    return f"in the link {item.link}" if item.link else "while its document was read"
