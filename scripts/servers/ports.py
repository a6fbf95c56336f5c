"""Free loopback ports that stay free while a server is down."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT = 15_000
_ATTEMPTS = 200


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, outside the range the kernel hands out.

    A test that stops its server and starts it again on the same port must not find the port
    taken by somebody's outgoing connection, nor a client of the stopped server connected to
    itself: on loopback both happen to ports of the ephemeral range.

    Raises RuntimeError if none is found.
    """
    highest = _lowest_ephemeral_port() - 1
    # Not the module's generator: test plugins seed that one, and would get the same ports again.
    generator = random.SystemRandom()
    for _ in range(_ATTEMPTS):
        port = generator.randint(_LOWEST_PORT, highest)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"no free port between {_LOWEST_PORT} and {highest}")


def _lowest_ephemeral_port() -> int:
    try:
        lowest = int(_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return lowest if lowest > _LOWEST_PORT + 1_000 else 65_536
