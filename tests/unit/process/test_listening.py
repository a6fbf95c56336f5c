"""listening.py: a listening socket that refuses connections for a while. Addresses that cannot be
used are tested with the commands, in tests/process/test_api.py."""

from __future__ import annotations

import socket

import pytest

from conserver.process import listening
from tests.helpers import free_port


def test_a_socket_that_was_stopped_resets_and_refuses_connections_until_it_listens_again() -> None:
    port = free_port()
    with listening.listen("127.0.0.1", port, "the test", "TEST_") as listener:
        with socket.create_connection(("127.0.0.1", port)) as waits:
            assert listening.stop(listener)
            with pytest.raises(ConnectionResetError):
                waits.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert not listening.stop(listener)
        listener.listen()
        assert listener.getsockname() == ("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            with accepted:
                client.sendall(b"a")
                assert accepted.recv(1) == b"a"
