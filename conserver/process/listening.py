"""Listening TCP sockets. The supervisor makes them before it starts any child.

So the boot fails with a clear error if an address is in use, or a port below 1024 is not allowed.
"""

from __future__ import annotations

import errno
import socket

from conserver.errors import EXIT_UNAVAILABLE, BootError

BACKLOG = 1024


def listen(host: str, port: int, what: str, variable: str) -> socket.socket:
    """A socket that listens on a TCP address.

    Args:
        what: the name of the service, for errors.
        variable: the common beginning of the environment variables for the address, which end with
            `HOST` and `PORT`.

    Raises:
        BootError: the address cannot be used. The error says what to do.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise BootError(
            f"{variable}HOST: {host} cannot be resolved: {error}", EXIT_UNAVAILABLE
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        text = _why(f"{what} cannot listen on {host}:{port}", variable, error)
        raise BootError(text, EXIT_UNAVAILABLE) from None
    return listener


def stop(listener: socket.socket) -> bool:
    """Refuse new connections, and reset those that nobody has accepted.

    The socket keeps its address. It takes connections again when a process calls `listen` on it, as
    every server does at its start.

    Returns:
        False if the socket did not listen.
    """
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    listener.shutdown(socket.SHUT_RD)
    return True


def _why(where: str, variable: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another process does; set {variable}PORT, or stop that one"
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need root or CAP_NET_BIND_SERVICE; use one above"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address ({variable}HOST)"
    return f"{where}: {error.strerror}"
