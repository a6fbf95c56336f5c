"""The guard: ends the servers of a test process that died without ending them itself.

main() runs in a process of its own with a pipe as standard input. Lines say what to watch
(`+process 4711 98765`: its pid and birth, `+container name`, `+folder path`) and what is over (the
same with a minus); the end of the pipe says that the test process is gone, whatever killed it.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from servers.tree import birth_of, kill_tree

_PACKAGE_FOLDER = Path(__file__).resolve().parent.parent


class Guard:
    """This process's line to its guard, which is started with the first thing to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe: IO[str] | None = None

    def watch(self, what: str, name: str) -> None:
        """Have `what` ("process", "container" or "folder") ended if this process dies."""
        self._say(f"+{what} {name}")

    def forget(self, what: str, name: str) -> None:
        """Take back what watch() has said."""
        self._say(f"-{what} {name}")

    def _say(self, line: str) -> None:
        with self._lock:
            if self._pipe is None:
                self._pipe = _start()
            self._pipe.write(line + "\n")
            self._pipe.flush()


def _start() -> IO[str]:
    guard = subprocess.Popen(
        [sys.executable, "-c", "from servers.guard import main; main()"],
        cwd=_PACKAGE_FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A Ctrl-C for the tests, or a kill of their process group, must not reach the guard.
        start_new_session=True,
        text=True,
    )
    # It is never waited for: it outlives this process by design.
    guard.returncode = 0
    assert guard.stdin is not None
    atexit.register(guard.stdin.close)
    return guard.stdin


def main() -> None:
    """Follow the pipe to its end, then end what is still being watched."""
    watched: dict[str, None] = {}
    for line in sys.stdin:
        sign, rest = line[0], line[1:].strip()
        if sign == "+":
            watched[rest] = None
        else:
            watched.pop(rest, None)
    for rest in watched:
        what, name = rest.split(" ", 1)
        if what == "process":
            pid, birth = map(int, name.split())
            # Not a stranger that got the number of a server long gone.
            if birth_of(pid) == birth:
                kill_tree(pid)
        elif what == "container":
            subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False)
        elif what == "folder" and Path(name).is_relative_to(tempfile.gettempdir()):
            subprocess.run(["rm", "-rf", "--", name], check=False)


GUARD = Guard()
