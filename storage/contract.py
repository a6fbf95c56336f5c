"""Defines what a storage is: the interface between the daemon and the places that keep vCons.

A storage is a module with three names:

1. ``Options``: a pydantic model (derive it from `StorageOptions`); wrong options fail before
   anything runs.
2. ``Storage``: a class that fulfils the protocol `Storage` below.
3. ``prepare(options)``: imports what is heavy and makes what may be shared by a later fork. It
   opens no socket and starts no thread.

The promises of every storage:

- A document is an upsert by its uuid. Writing the same one twice does no harm.
- A newer revision is never replaced by an older one. What the storage holds without a revision is
  older than any. Finding a newer one there counts as stored: it contains ours.
- One document's fault never harms its neighbours: `save_many` answers for each separately.
- A storage may be `Searchable` and `Findable` as well.
- `Rejected` is the outcome only of what this storage will never take. Whatever may pass by itself
  or by an operator's hand (server away, disk full, read-only, wrong password) is `Unavailable`, or
  an exception, which means: all of them are unavailable; close the storage and open it again later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field

Form: TypeAlias = Literal["unsigned", "jws", "jwe"]


@dataclass(slots=True)
class Document:
    """One vCon to keep: its JSON bytes and what is known of them.

    `revision` rises with every change of the vCon. `etag` is what this storage answered when it
    stored the document before (`Stored.etag`), if the caller still knows. `parsed` is the parsed
    body, handed in by a caller that has it; storages only read it.
    """

    uuid: str
    body: bytes
    revision: int
    etag: str | None = None
    parsed: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def data(self) -> dict[str, Any]:
        """The parsed body (parsed once). Raises ValueError where it is no JSON object."""
        if self.parsed is None:
            parsed = orjson.loads(self.body)
            if not isinstance(parsed, dict):
                raise ValueError("the document is not a JSON object")
            self.parsed = parsed
        return self.parsed

    @property
    def form(self) -> Form:
        """Whether the document is a plain vCon or its signed or encrypted envelope."""
        data = self.data
        if "payload" in data and "signatures" in data:
            return "jws"
        if "ciphertext" in data and "recipients" in data:
            return "jwe"
        return "unsigned"


@dataclass(frozen=True, slots=True)
class Stored:
    """Outcome: the storage holds this revision, or (`superseded`) a newer one that contains it."""

    etag: str | None = None
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Outcome: the storage will never take this document; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Outcome: not stored now; try again, after `after_s` seconds if the storage says when."""

    reason: str
    after_s: float | None = None


Outcome: TypeAlias = Stored | Rejected | Unavailable


class StorageOptions(BaseModel):
    """The options that every storage has. An unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that one call may take before the storage counts as unavailable.",
    )


@runtime_checkable
class Storage(Protocol):
    """A place that keeps vCons. Made with `Storage(name, options)`; nothing happens until `open`.

    `save_many` is called from one thread at a time. `get`, `delete` and `ready` may be called
    from another thread meanwhile. `open` and `close` can be called again without harm.

    It may have a `place` besides (see place_of), which then stands in every message about it.
    """

    name: str

    def open(self) -> None:
        """Connects, and creates a missing schema or index. Raises if it cannot."""

    def close(self) -> None:
        """Closes the client. Never raises for a broken connection."""

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Stores documents of distinct uuids; one outcome for each, in the same order.

        Raises for a broken connection: then nothing is known of any of them.
        """

    def get(self, uuid: str) -> bytes | None:
        """Returns the document as JSON, or None if this storage does not hold it (whole)."""

    def delete(self, uuid: str) -> bool:
        """Deletes the document. Returns whether there was one."""

    def ready(self) -> None:
        """Raises if documents could not be stored now."""


def place_of(storage: object) -> str:
    """Where a storage keeps its vCons, for messages: what it has as `place`, such as host:port or a
    path. "" where it says nothing.
    """
    return str(getattr(storage, "place", ""))


def with_place(text: str, place: str) -> str:
    """A message about a storage that names the place, which many clients leave out."""
    return text if not place or place in text else f"{text} ({place})"


def servers_in(*urls: str) -> str:
    """The servers of some URLs, without logins: host:port, or the path of a socket."""
    parts = [urlsplit(url) for url in urls]
    return ", ".join(part.netloc.rpartition("@")[2] or part.path for part in parts)


@dataclass(frozen=True, slots=True)
class Hit:
    """A vCon that a search has found.

    Attributes:
        created_at: of the vCon, as text; "" where it has none.
        snippet: some of its words around those that were found.
        marks: where those are in the snippet: (begin, end) in characters.
    """

    uuid: str
    created_at: str
    subject: str
    snippet: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Hits:
    """A page of hits, the newest first. cursor: of the next page; "" for the last."""

    hits: Sequence[Hit]
    cursor: str = ""


@runtime_checkable
class Searchable(Protocol):
    """What a storage can do besides, if it keeps an index of words. Called as `get` is.

    A storage that has `search` and that is configured without an index sets `searches` to False.
    """

    searches: bool

    def search(self, text: str, limit: int, cursor: str = "") -> Hits:
        """Finds the vCons that hold every word and every "quoted phrase" of a text.

        Looked for in subjects, parties, transcripts, text messages, tags and other analyses. A text
        without a word finds nothing. What was stored is found within seconds.

        Raises ValueError for a cursor that is not this storage's.
        """


@dataclass(frozen=True, slots=True)
class Finds:
    """A page of what a query has found. cursor: of the next page; "" for the last."""

    uuids: Sequence[str]
    cursor: str = ""


@runtime_checkable
class Findable(Protocol):
    """What a storage can do besides, if it has a language for queries. Called as `get` is."""

    def find(self, query: str | dict[str, Any], limit: int, cursor: str = "") -> Finds:
        """Finds the vCons that a query of the storage's own language means, each once.

        The pages follow an order that later changes of a vCon do not change: so one that is there
        from the first page to the last is in one of them.

        Raises ValueError for a query or a cursor that is none of this storage's.

        A storage may also have `check_query(query)`, which raises ValueError for what can be none
        of its queries, without asking anybody: `conserver check` calls it.
        """


def all_unavailable(
    documents: Sequence[Document], reason: str, after_s: float | None = None
) -> list[Outcome]:
    """Outcomes for documents that the same failure concerns."""
    return [Unavailable(reason, after_s)] * len(documents)
