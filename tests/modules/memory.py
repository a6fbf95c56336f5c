"""A storage in memory: it keeps every promise of the contract, and misbehaves on a test's order.

    shelf = memory.shelf("a")                   what the storage with `options: {shelf: a}` keeps
    shelf.on_save += [memory.away(), memory.as_ever, memory.breaks()]

Each call (open, save_many, get) takes the next deed of its queue; with none left it is as good as
any storage. A deed gets what the call got. It may answer in the storage's place, raise, or wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from storage.contract import (
    Document,
    Outcome,
    Rejected,
    StorageOptions,
    Stored,
    Unavailable,
    all_unavailable,
)

Deed = Callable[[Any], Any]
HANG_S_MAX = 300.0


class Options(StorageOptions):
    """Which shelf."""

    shelf: str


class Shelf:
    """What one storage keeps, how it was treated, and what it will do next."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.saves: list[list[Document]] = []  # every call of save_many, as it came
        self.lookups: list[str] = []
        self.on_open: deque[Deed] = deque()
        self.on_save: deque[Deed] = deque()
        self.on_get: deque[Deed] = deque()
        self.opened = 0
        self.closed = 0
        self.lock = threading.Lock()

    @property
    def uuids(self) -> list[list[str]]:
        """The uuids of every save_many."""
        return [[document.uuid for document in documents] for documents in self.saves]

    def put(self, documents: Sequence[Document]) -> list[Outcome]:
        """Keep the newest revision of each."""
        outcomes: list[Outcome] = []
        with self.lock:
            for document in documents:
                known = self.documents.get(document.uuid)
                newer = known is not None and known.revision > document.revision
                if not newer:
                    self.documents[document.uuid] = document
                outcomes.append(Stored(etag=f"etag-{document.revision}", superseded=newer))
        return outcomes


_SHELVES: dict[str, Shelf] = {}


def shelf(name: str) -> Shelf:
    """The shelf of that name, which is made when it is first asked for."""
    return _SHELVES.setdefault(name, Shelf())


class Storage:
    """See storage.contract.Storage."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._shelf = shelf(options.shelf)

    def open(self) -> None:
        self._shelf.opened += 1
        _next(self._shelf.on_open, None)

    def close(self) -> None:
        self._shelf.closed += 1

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        self._shelf.saves.append(list(documents))
        answer = _next(self._shelf.on_save, documents)
        return self._shelf.put(documents) if answer is None else answer

    def get(self, uuid: str) -> bytes | None:
        self._shelf.lookups.append(uuid)
        answer: bytes | None = _next(self._shelf.on_get, uuid)
        if answer is None and uuid in self._shelf.documents:
            return self._shelf.documents[uuid].body
        return answer

    def delete(self, uuid: str) -> bool:
        return self._shelf.documents.pop(uuid, None) is not None

    def ready(self) -> None:
        """It always is."""


def _next(deeds: deque[Deed], argument: Any) -> Any:
    return deeds.popleft()(argument) if deeds else None


# ---- deeds ---------------------------------------------------------------------------------------


def as_ever(_argument: Any) -> None:
    """Do what is expected."""


def breaks(error: Exception | None = None) -> Deed:
    """Raise, as a client does whose connection is gone."""

    def deed(_argument: Any) -> None:
        raise error or ConnectionError("the connection is gone")

    return deed


def away(reason: str = "away", after_s: float | None = None) -> Deed:
    """Say of every document that it cannot be stored now."""
    return lambda documents: all_unavailable(documents, reason, after_s)


def refuses(*uuids: str) -> Deed:
    """Never take these; as ever with the others."""

    def deed(documents: Sequence[Document]) -> list[Outcome]:
        return [
            Rejected("not wanted") if document.uuid in uuids else Stored() for document in documents
        ]

    return deed


def misses(*uuids: str) -> Deed:
    """Have no place for these now; as ever with the others."""

    def deed(documents: Sequence[Document]) -> list[Outcome]:
        return [
            Unavailable("no room") if document.uuid in uuids else Stored() for document in documents
        ]

    return deed


def answers(*outcomes: Any) -> Deed:
    """Answer this, be it right or wrong."""
    return lambda _documents: list(outcomes)


def waits_for(gate: threading.Event, begun: threading.Event | None = None) -> Deed:
    """Hang, or be slow: until the gate opens; then go on as ever."""

    def deed(_argument: Any) -> None:
        if begun is not None:
            begun.set()
        if not gate.wait(HANG_S_MAX):
            raise TimeoutError("nobody opened the gate")

    return deed
