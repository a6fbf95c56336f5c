"""File descriptors across a fork: which are open, and which of them a child keeps."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from conserver.process.boot import Boot
from conserver.process.shared_status import SharedStatus


def open_descriptors() -> frozenset[int]:
    """The descriptors that this process has open now."""
    listed = list(Path("/proc/self/fd").iterdir())
    # The list contains the descriptor it was read through, which is closed again.
    return frozenset(number for number in (int(path.name) for path in listed) if _is_open(number))


def hold_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1 and 2 that is closed.

    Otherwise one of our sockets would get that number, and the log would be written into it.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):
            # The kernel assigns the lowest free number. Children get it through exec, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Inherited:
    """What is open in a forked child: descriptors older than the supervisor's own, and those.

    A child keeps the older ones (the log, whatever a library holds). It closes the supervisor's
    own, except those in its Boot.
    """

    preexisting: frozenset[int]
    statuses: tuple[SharedStatus, ...]

    def close_foreign(self, boot: Boot) -> None:
        """Close every descriptor and mapping of the supervisor that does not belong to `boot`."""
        kept = (boot.status, *boot.statuses, *boot.other_statuses)
        own_statuses = [os.dup(status.fd) for status in kept]
        for status in self.statuses:
            status.close()
        keep = {channel.fileno() for channel in boot.channels} | {boot.lifeline, *own_statuses}
        # The sockets and selectors of these descriptors stay referenced by the supervisor's stack
        # frames below us. They are never collected, so no number is closed twice.
        for descriptor in open_descriptors() - self.preexisting - keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        boot.status, *others = (SharedStatus(descriptor) for descriptor in own_statuses)
        workers = len(boot.statuses)
        boot.statuses, boot.other_statuses = others[:workers], others[workers:]
