"""What is told to a service manager. tests/process/test_service_manager.py has a daemon."""

from __future__ import annotations

import socket
from pathlib import Path

from conserver.process.service_manager import ServiceManager


def test_what_a_full_socket_has_not_taken_is_said_again(tmp_path: Path) -> None:
    """Or a manager that was busy would take a daemon for one that never became ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd:
            crowd.setblocking(False)
            waiting = 0
            try:
                while True:
                    crowd.sendto(b"x", str(tmp_path / "notify"))
                    waiting += 1
            except BlockingIOError:
                pass
        told = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        told.tell(0, ready=True, stopping=False)
        for _ in range(waiting):
            assert manager.recv(100) == b"x"
        told.tell(1, ready=True, stopping=False)
        told.tell(2, ready=True, stopping=False)
        told.tell(3, ready=True, stopping=True)
        manager.setblocking(False)
        assert manager.recv(100).startswith(b"READY=1")
        assert manager.recv(100).startswith(b"STOPPING=1")
