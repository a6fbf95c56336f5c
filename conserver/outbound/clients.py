"""Keeps the HTTP clients of a process, shared by its threads.

A client is made when it is first needed, so never before a fork.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A client, or a pool of connections."""

    def close(self) -> None:
        """Closes its connections."""


Client = TypeVar("Client", bound=Closable)


class Clients(Generic[Client]):
    """Clients by a key, such as certificates and proxy."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Client] = {}
        self._lock = threading.Lock()

    def get(self, what_for: Hashable, make: Callable[[], Client]) -> Client:
        """The client with the key `what_for`; made now if there is none yet."""
        found = self._kept.get(what_for)
        if found is None:
            with self._lock:
                found = self._kept.get(what_for)
                if found is None:
                    found = self._kept[what_for] = make()
        return found

    def close(self) -> None:
        """Closes and removes all clients."""
        with self._lock:
            while self._kept:
                self._kept.popitem()[1].close()
