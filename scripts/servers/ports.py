"""Free loopback ports that stay free while a server is down."""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from pathlib import Path

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT = 15_000
_ATTEMPTS = 200
# A port is often given out some time before anybody listens on it, or while its server is down.
_RECENT: deque[int] = deque(maxlen=500)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, outside the range the kernel hands out.

    A test that stops its server and starts it again on the same port must not find the port
    taken by somebody's outgoing connection, nor a client of the stopped server connected to
    itself: on loopback both happen to ports of the ephemeral range. None of the last 500 is given
    out again, and each process of pytest-xdist has ports that no other one gives out.

    Raises RuntimeError if none is found.
    """
    lane, lanes = _lane()
    ports = range(_LOWEST_PORT + lane, _lowest_ephemeral_port(), lanes)
    # Not the module's generator: test plugins seed that one, and would get the same ports again.
    generator = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = generator.choice(ports)
        if port in _RECENT:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _RECENT.append(port)
        return port
    raise RuntimeError(f"no free port between {ports.start} and {ports.stop - 1}")


def _lane() -> tuple[int, int]:
    """The number of this process among those of pytest-xdist, from 0, and how many they are."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0")  # gw0, gw1, ...
    return int(name.removeprefix("gw")), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _lowest_ephemeral_port() -> int:
    try:
        lowest = int(_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return lowest if lowest > _LOWEST_PORT + 1_000 else 65_536
