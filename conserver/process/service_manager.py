"""Tells a service manager (systemd, Type=notify) that the daemon is ready, alive or stopping.

The protocol is that of sd_notify(3): datagrams of `NAME=value` to the socket that NOTIFY_SOCKET
names. Without that variable nothing is sent. With WATCHDOG_USEC (WatchdogSec= of the unit) the
supervisor reports twice within that time that it is alive. If it stands still, systemd kills it and
starts it again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """Used by the supervisor alone. Its children inherit the variables, but send nothing."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._beat_every_s = _half_s(environ)
        self._beat_at_s = 0.0
        self._ready = self._stopping = False

    def tell(self, now_s: float, *, ready: bool, stopping: bool) -> None:
        """Send changes of `ready` and `stopping`, and that this process is alive. Never raises.

        Args:
            now_s: by time.monotonic().
        """
        if not self._address:
            return
        words = []
        if ready and not self._ready:
            words.append("READY=1\nSTATUS=running")
        if stopping and not self._stopping:
            words.append("STOPPING=1\nSTATUS=draining: running items are finished first")
        if self._beat_every_s and now_s >= self._beat_at_s:
            self._beat_at_s = now_s + self._beat_every_s
            words.append("WATCHDOG=1")
        # If the socket was full, the next call sends the same again.
        if words and self._send("\n".join(words)):
            self._ready |= ready
            self._stopping |= stopping

    def _send(self, text: str) -> bool:
        """Send a datagram. Returns False if the socket is full."""
        # A name that begins with @ is an abstract address, whose first byte is zero.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with suppress(OSError), socket.socket(socket.AF_UNIX, flags) as sender:
            try:
                sender.sendto(text.encode(), address)
            except BlockingIOError:
                return False
        return True


def _half_s(environ: Mapping[str, str]) -> float:
    """How often to report that this process is alive, in seconds; 0 if systemd does not ask this
    process to (sd_watchdog_enabled(3)).
    """
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    meant = not pid or pid == str(os.getpid())
    return int(text) / 2e6 if meant and text.isdigit() else 0.0
