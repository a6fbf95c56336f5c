"""WorkerInbox: the queues through which chain threads and writers reach the worker loop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from conserver.process import failpoints
from conserver.process.shared_status import Phase, SharedStatus
from conserver.worker.checkpoint import Checkpoint
from conserver.worker.item import Item
from conserver.worker.throttles import Throttles
from storage.contract import Outcome


class StorageReport(NamedTuple):
    """A writer's answer: the outcome of each item's save, or the result of a look-up.

    looked_up: the item whose document was looked up. found: its document; None if the storage does
    not have it. durations: of the save calls, in seconds.
    """

    storage: str
    outcomes: list[tuple[Item, Outcome]]
    looked_up: Item | None = None
    found: bytes | None = None
    durations: Sequence[float] = ()


class LinkNumbers:
    """Measurements of chain threads that meters.py has not counted yet.

    took: chain -> link -> seconds of each run. counted: (chain, link, counter, amount), as links
    reported them. There is no lock: chain threads only append, the worker loop only takes from the
    front, and the interpreter does either in one step.
    """

    def __init__(self, chains: Mapping[str, Iterable[str]]) -> None:
        self.took: dict[str, dict[str, list[float]]] = {
            chain: {link: [] for link in links} for chain, links in chains.items()
        }
        self.counted: deque[tuple[str, str, str, float]] = deque()


class WorkerInbox:
    """Queues that other threads append to, and an eventfd that wakes the worker loop.

    asleep: set by the worker loop before it sleeps in poll(). cancelled: the tokens of held items
    that an operator has cancelled. throttles: the links that may not be called now. numbers:
    measurements of chain threads for /metrics; None if metrics are off.
    """

    def __init__(self, status: SharedStatus) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.status = status
        self.asleep = False
        self.woken = False
        self.reports: deque[StorageReport] = deque()
        self.checkpoints: deque[Checkpoint] = deque()
        self.cancelled: set[str] = set()
        self.throttles = Throttles()
        self.numbers: LinkNumbers | None = None

    def fileno(self) -> int:
        """The eventfd. It is readable after wake() if the worker loop was asleep."""
        return self._fd

    def wake(self) -> None:
        """Wake the worker loop. The system call is needed only if the loop is asleep: a loop that
        is awake reads `woken` before it goes to sleep.
        """
        self.woken = True
        if self.asleep:
            os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make fileno() unreadable again."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return

    def report(self, report: StorageReport) -> None:
        """Queue a report for the worker loop. Called by a writer's thread."""
        self.reports.append(report)
        self.wake()

    def is_cancelled(self, item: Item) -> bool:
        """Whether an operator has cancelled the item."""
        return item.claimed.token in self.cancelled

    def throttle(self, link: str, after_s: float) -> None:
        """Throttle a link for after_s, as its server asked. Called by a chain thread."""
        self.throttles.meet(link, after_s)
        self.wake()

    def checkpoint(self, item: Item) -> None:
        """Block until the item's document and progress are written. Called by a chain thread.

        Raises:
            Rejected: the document cannot be written, or cannot be merged with a newer one.
            Retry: it cannot be written now: a key has the wrong type, or a storage is unavailable.
            StartAnew, TakenAway: see checkpoint.py.
        """
        item.dump_vcon()
        failpoints.at("before-checkpoint")
        checkpoint = Checkpoint(item)
        self.status.set_phase(item.status_slot, Phase.UNTIMED)
        self.checkpoints.append(checkpoint)
        self.wake()
        checkpoint.finished.wait()
        self.status.set_phase(item.status_slot, Phase.RUNNING)
        if checkpoint.error is not None:
            raise checkpoint.error
        failpoints.at("after-checkpoint")
