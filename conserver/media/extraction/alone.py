"""A page reader without a supervisor: `python -m conserver.media.extraction.alone`.

Its arguments are two descriptors: of the socket from which it accepts connections, and of a pipe
that closes when the parent ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from setproctitle import setproctitle

from conserver.media.extraction.reader import Reader, ReaderOptions
from conserver.process import failpoints, memory


def main() -> int:
    """Read pages until the parent has ended, or until idle for too long. Returns the exit code."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.setblocking(False)
    setproctitle(f"conserver: page reader of {os.getppid()}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.use_one_arena()
    failpoints.arm(os.environ)
    Reader(listener, ReaderOptions()).run(lambda: True, [int(sys.argv[2])])
    return 0


if __name__ == "__main__":
    os._exit(main())
