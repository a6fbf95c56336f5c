"""WorkerInbox: how chain threads and writers reach the worker loop."""

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
    """A writer's answer: what its storage did with each item, or the result of a look-up.

    looked_up: the item whose document was looked up; found: that document, None: not there.
    durations: of the calls that saved, in seconds.
    """

    storage: str
    outcomes: list[tuple[Item, Outcome]]
    looked_up: Item | None = None
    found: bytes | None = None
    durations: Sequence[float] = ()


class LinkNumbers:
    """What chain threads measure, until meters.py counts it.

    took: by chain and link, the seconds of each run. counted: chain, link, name and amount of what
    links count. Threads only append, and the worker loop takes from the front; each is one step for
    the interpreter.
    """

    def __init__(self, chains: Mapping[str, Iterable[str]]) -> None:
        self.took: dict[str, dict[str, list[float]]] = {
            chain: {link: [] for link in links} for chain, links in chains.items()
        }
        self.counted: deque[tuple[str, str, str, float]] = deque()


class WorkerInbox:
    """Queues that other threads append to, and an eventfd that wakes the worker loop.

    The worker loop sets `asleep` before it sleeps in poll(), and takes from the queues. `cancelled`
    has the tokens of held items that an operator has cancelled, `throttles` the links that nobody
    may call now, `numbers` what chain threads leave for /metrics; None where nothing is measured.
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
        """Readable after wake(), if the worker loop was asleep."""
        return self._fd

    def wake(self) -> None:
        """Wake the worker loop. The system call is made only if it sleeps: otherwise it looks at
        `woken` before it does.
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
        """Called by a writer's thread."""
        self.reports.append(report)
        self.wake()

    def is_cancelled(self, item: Item) -> bool:
        """Whether an operator has cancelled the item."""
        return item.claimed.token in self.cancelled

    def throttle(self, link: str, after_s: float) -> None:
        """Called by a chain thread: the server of this link wants no calls for so long."""
        self.throttles.meet(link, after_s)
        self.wake()

    def checkpoint(self, item: Item) -> None:
        """Called by a chain thread: block until the item's document and progress are written.

        Raises:
            Rejected: the document cannot be written, or not merged with a newer one.
            Retry: something is in the way that an operator or time removes.
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
