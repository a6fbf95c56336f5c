"""A post of the household: who holds it, how that one ended, and when the next one may come.

Here is decided whom a death is blamed on. The rule is that of the protocol: what a crash or a
stall found in the hands of a link or a storage is suspected, an item that was killed for its own
time limit is counted, and nobody is blamed for what we did ourselves.
"""

from __future__ import annotations

import enum
import signal
import time
from typing import Any, Literal

from conserver.config.settings import Settings
from conserver.process.boot import Role
from conserver.process.messages import Message, send
from conserver.process.shared_status import Phase, StatusItem
from conserver.supervisor.child import Child
from conserver.supervisor.recycling import RecycleLimits
from conserver.supervisor.resources import Slot
from conserver.supervisor.time_limits import Overdue, TimeLimits

BACKOFF_S_FIRST = 1.0
BACKOFF_S_MAX = 30.0
LONG_LIFE_S = 60.0
"""A child that lived so long is not one of a series of deaths."""


class Verdict(enum.Enum):
    """Why the supervisor has killed a child."""

    NONE = "none"
    STALLED = "stalled"
    OVERDUE = "overdue"
    OURS = "no longer needed"  # A shutdown or a planned replacement: nobody is to blame.


class Backoff:
    """The wait before a replacement: none the first time, then growing while they keep dying."""

    def __init__(self) -> None:
        self.deaths = 0
        """Deaths in a row, each soon after its start."""

    def after_s(self, lived_s: float, *, blamed: bool = False) -> float:
        """A child has died after `lived_s`: how long the next one has to wait.

        Not long if an item is blamed: that series ends, with its dead letter.
        """
        self.deaths = 1 if lived_s >= LONG_LIFE_S else self.deaths + 1
        if self.deaths == 1:
            return 0.0
        most_s = BACKOFF_S_FIRST if blamed else BACKOFF_S_MAX
        return float(min(BACKOFF_S_FIRST * 2 ** (self.deaths - 2), most_s))


Farewell = Literal["", "shutdown", "reload", "recycling", "void", "retiring"]


class ChildSlot:
    """One post and the child that holds it now, if any."""

    def __init__(self, role: Role, slot: Slot) -> None:
        self.role = role
        self.slot = slot
        self.name = "coordinator" if role == "coordinator" else f"worker {slot.number}"
        self.backoff = Backoff()
        self.restarts = -1
        """How often the post was filled again."""
        self.due_at_s = 0.0
        """When the next child may start, by time.monotonic()."""
        self.consumer = ""
        """The consumer id of the child, from the order to register it until its death."""
        self.registering = 0
        """The order that has to be acknowledged before the child starts."""
        self.generation = 0
        """Which configuration the child has."""
        self.started_at = 0.0
        """When the child started, in seconds since the epoch; for the status."""
        self.child: Child | None = None
        self.recycle_limits: RecycleLimits
        """What the child may use up."""
        self._begin()

    def _begin(self) -> None:
        self.time_limits = TimeLimits()
        self.farewell: Farewell = ""
        self.farewell_at_s = 0.0
        self.verdict = Verdict.NONE
        self.overdue: Overdue | None = None

    def fill(self, child: Child, generation: int, settings: Settings) -> None:
        """A child takes the post."""
        self._begin()
        self.recycle_limits = RecycleLimits(
            settings.max_items_per_worker, settings.max_worker_memory
        )
        self.child = child
        self.generation = generation
        self.restarts += 1
        self.started_at = time.time()

    @property
    def serving(self) -> bool:
        """Whether its child is ready, and is not about to go."""
        return self.child is not None and self.child.ready and not self.farewell

    @property
    def on_its_way(self) -> bool:
        """Whether its child will soon be ready: it is registered, it starts, or it is due."""
        if self.child is not None:
            return not self.child.ready
        return self.backoff.deaths <= 1

    @property
    def vacant(self) -> bool:
        """Whether nobody holds it, and nobody has been registered for it."""
        return self.child is None and not self.registering

    def part(self, why: Farewell, now_s: float, **fields: Any) -> None:
        """Tell its child to finish and end; once said, it is not said again.

        A child that does not read loses the message: it stands still, and its stall clock runs.
        """
        if self.child is None or self.farewell:
            return
        self.farewell = why
        self.farewell_at_s = now_s
        send(self.slot.ours, {"type": "drain", **fields})

    def kill(self, verdict: Verdict, overdue: Overdue | None = None) -> None:
        """Kill its child. The first reason counts."""
        if self.child is None:
            return
        if self.verdict is Verdict.NONE:
            self.verdict = verdict
            self.overdue = overdue
        self.child.kill()

    def vacate(self) -> None:
        """Its child is dead and has been reported."""
        self._begin()
        self.child = None
        self.consumer = ""
        self.registering = 0

    def blame(self, exit_code: int | None) -> Message:
        """Whom the death of its child is blamed on, as the fields of a return order."""
        if self.verdict is Verdict.OVERDUE and self.overdue is not None:
            item, how = self.overdue.item, f"was killed because {self.overdue.reason}"
            note = {"reason": "time_limit", **_note(item, how)}
            return _fields({item: note}, counted=[item.token])
        if self.verdict is Verdict.OURS or self._left_by_itself(exit_code):
            return _fields({})
        how = "was killed because it stood still"
        if self.verdict is not Verdict.STALLED:
            how = ending(exit_code)
        blame = _fields({item: _note(item, f"{how} {_doing(item)}") for item in self._at_work()})
        # A suspect that was marked begun counts this death even if the page shows nothing yet.
        return {**blame, "blame": "items", "notes": {"": {"error": how}, **blame["notes"]}}

    def blamed_vcons(self, blame: Message) -> list[str]:
        """Them by their uuids, for people; by its token, where nobody had read a uuid yet."""
        uuids = {item.token: item.uuid for item in self.slot.status.read().items}
        return [uuids.get(token) or token for token, _epoch in blame["items"]]

    def crashed(self, exit_code: int | None) -> bool:
        """Whether the death is to be called a crash: not asked for, and not by us."""
        return self.verdict is Verdict.NONE and not self._left_by_itself(exit_code)

    def _left_by_itself(self, exit_code: int | None) -> bool:
        """Whether the child has ended as workers end: with nothing at work, or because its items
        were given to others. A link that calls os._exit(0) ends it in the middle of work.
        """
        if self.verdict is not Verdict.NONE:
            return False
        return self.farewell == "void" or (exit_code == 0 and not self._at_work())

    def _at_work(self) -> list[StatusItem]:
        """What the child's page shows at work."""
        return [item for item in self.slot.status.read().items if item.phase.blamed]

    def left_as_planned(self, exit_code: int | None) -> bool:
        """Whether its child made room for the next one, which need not wait then.

        A worker that has done nothing has not used up a ration either: that series of deaths has
        to slow down like any other (a memory limit that is too low for an idle worker).
        """
        if self.verdict is Verdict.OVERDUE:
            return True  # By us, for an item's sake, which counts it.
        if self.crashed(exit_code) or self.verdict is Verdict.STALLED:
            return False
        if self.farewell in ("recycling", "retiring"):
            view = self.slot.status.read()
            return view.items_done + view.items_failed > 0
        return self.farewell == "reload"

    def state(self) -> str:
        """One word for the status."""
        if self.child is None:
            return "registering" if self.registering else "waiting"
        if self.farewell:
            return "draining"
        if not self.child.ready:
            return "starting"
        return self.slot.status.state.name.lower()


def ending(code: int | None) -> str:
    """How a child ended, in words that follow on "it"."""
    if code is None:
        return "ended, nobody knows how,"
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"


def _fields(blamed: dict[StatusItem, dict[str, str]], counted: list[str] | None = None) -> Message:
    return {
        "blame": "items" if blamed else "nobody",
        "items": [[item.token, item.epoch] for item in blamed],
        "counted": counted or [],
        "notes": {item.token: note for item, note in blamed.items()},
    }


def _note(item: StatusItem, how: str) -> dict[str, str]:
    """What the item's dead letter will say of this death, if it becomes one."""
    in_link = item.link and item.phase is not Phase.STORING
    return {"error": how, "link": item.link} if in_link else {"error": how}


def _doing(item: StatusItem) -> str:
    if item.phase is Phase.STORING:
        return "while it was stored"
    return f"in the link {item.link}" if item.link else "while its document was read"
