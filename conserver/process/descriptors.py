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
    return frozenset(number for number in (int(path.name) for path in listed) if _is_open(number))


def hold_standard_descriptors() -> None:
    """Open /dev/null for each of 0, 1 and 2 that is closed.

    Else one of our sockets would get its number, and the log would be written into it.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):
            # The kernel gives the lowest number that is free. Children get it through exec too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _is_open(descriptor: int) -> bool:
    """The descriptor that the listing itself had is in the list, and closed again."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Inherited:
    """What a forked child finds open: descriptors from before the household, and the household's.

    The former stay (the log, whatever a library holds), the latter go, except the child's own.
    """

    from_before: frozenset[int]
    statuses: tuple[SharedStatus, ...]

    def shed(self, boot: Boot) -> None:
        """Close every descriptor and mapping of the household that is not this child's."""
        own_statuses = [os.dup(status.fd) for status in (boot.status, *boot.statuses)]
        for status in self.statuses:
            status.close()
        keep = {channel.fileno() for channel in boot.channels} | {boot.lifeline, *own_statuses}
        # The sockets and selectors that had these descriptors live on, unused, in the frames of
        # the supervisor below us; nothing will ever collect them, so none closes a number twice.
        for descriptor in open_descriptors() - self.from_before - keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        boot.status, *boot.statuses = (SharedStatus(descriptor) for descriptor in own_statuses)
