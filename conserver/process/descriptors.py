"""File descriptors across a fork: which descriptors are open, and which of them a child keeps."""

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
    # The list contains the descriptor of the directory itself, which is closed by now.
    return frozenset(number for number in (int(path.name) for path in listed) if _is_open(number))


def hold_standard_descriptors() -> None:
    """Open /dev/null as each of the descriptors 0, 1 and 2 that is closed.

    Otherwise a socket of the supervisor would get that number, and the log would go into it.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):
            # The kernel assigns the lowest free number. Children inherit it, also through exec.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Inherited:
    """What a forked child inherits from the supervisor.

    preexisting: descriptors that were opened before the supervisor's own: the log's, and those of
    libraries. The child keeps them, and closes the supervisor's own descriptors, except those in
    its Boot. statuses: all shared statuses of the supervisor.
    """

    preexisting: frozenset[int]
    statuses: tuple[SharedStatus, ...]

    def close_foreign(self, boot: Boot) -> None:
        """Close every descriptor and mapping of the supervisor that is not in `boot`."""
        kept = (boot.status, *boot.statuses, *boot.other_statuses)
        own_statuses = [os.dup(status.fd) for status in kept]
        for status in self.statuses:
            status.close()
        keep = {channel.fileno() for channel in boot.channels} | {boot.lifeline, *own_statuses}
        # The supervisor's stack frames, which lie below this one, still refer to its sockets and
        # selectors. So these are never collected, and no number is closed twice.
        for descriptor in open_descriptors() - self.preexisting - keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        boot.status, *others = (SharedStatus(descriptor) for descriptor in own_statuses)
        workers = len(boot.statuses)
        boot.statuses, boot.other_statuses = others[:workers], others[workers:]
