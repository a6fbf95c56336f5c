"""Defines what a storage is: the interface between the daemon and the places that keep vCons.

A storage is a module with three names:

1. ``Options``: a pydantic model (derive it from `StorageOptions`); wrong options fail before
   anything runs.
2. ``Storage``: a class that fulfils the protocol `Storage` below.
3. ``prepare(options)``: the supervisor calls it before it forks. It imports heavy modules, so that
   all children share their memory. It opens no socket and starts no thread.

Every storage keeps these rules:

- A write is an upsert by uuid. Writing the same document twice does no harm.
- An older revision never replaces a newer one. If the storage already holds a newer revision, the
  outcome is `Stored`, because the newer revision contains the older one's changes. A row or object
  without a revision counts as older than any revision.
- A bad document does not harm the other documents of its batch: `save_many` returns one outcome
  for each.
- `Rejected` means that this storage will never take the document. For causes that can go away
  (server away, disk full, read-only, wrong password) the outcome is `Unavailable`.
- If `save_many` raises, the whole batch counts as unavailable. The caller closes the storage and
  opens it again later.
- A storage may be `Searchable` and `Findable` as well.
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
    """One vCon to store: its JSON bytes, and facts about them.

    `revision` rises with every change of the vCon. `etag` is the `Stored.etag` that this storage
    returned for the document last time; None if the caller does not have it. `parsed` is the parsed
    body if the caller has parsed it already; storages never change it.
    """

    uuid: str
    body: bytes
    revision: int
    etag: str | None = None
    parsed: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def data(self) -> dict[str, Any]:
        """The parsed body (parsed once). Raises ValueError if it is not a JSON object."""
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
    """Outcome: not stored, but a later try may succeed; after `after_s` seconds, if it is given."""

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
    """A place that keeps vCons. `Storage(name, options)` makes it; it connects only at `open`.

    One thread at a time calls `save_many`. Another thread may call `get`, `delete` and `ready`
    meanwhile. `open` and `close` may be called repeatedly.

    A storage may also have an attribute `place` (see place_of), which every message about it shows.
    """

    name: str

    def open(self) -> None:
        """Connects, and creates a missing schema or index. Raises if it cannot."""

    def close(self) -> None:
        """Closes the client. Never raises for a broken connection."""

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Stores documents of distinct uuids; returns one outcome for each, in the same order.

        Raises for a broken connection: then any of the documents may be stored or not.
        """

    def get(self, uuid: str) -> bytes | None:
        """Returns the document as JSON, or None if this storage does not hold all of it."""

    def delete(self, uuid: str) -> bool:
        """Deletes the document. Returns whether there was one."""

    def ready(self) -> None:
        """Raises if documents could not be stored now."""


def place_of(storage: object) -> str:
    """The storage's attribute `place`, for messages: host:port or a path. "" if it has none."""
    return str(getattr(storage, "place", ""))


def with_place(text: str, place: str) -> str:
    """`text` with the storage's place appended, because many clients' errors do not name it."""
    return text if not place or place in text else f"{text} ({place})"


def servers_in(*urls: str) -> str:
    """The servers of some URLs, without logins: host:port, or the path of a socket."""
    parts = [urlsplit(url) for url in urls]
    return ", ".join(part.netloc.rpartition("@")[2] or part.path for part in parts)


@dataclass(frozen=True, slots=True)
class Hit:
    """A vCon that a search has found.

    Attributes:
        created_at: the vCon's own `created_at`, as text; "" if it has none.
        snippet: a piece of the vCon's text around the found words.
        marks: the found words in the snippet: (begin, end) in characters.
    """

    uuid: str
    created_at: str
    subject: str
    snippet: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Hits:
    """A page of hits, the newest first. cursor: asks for the next page; "" if there is none."""

    hits: Sequence[Hit]
    cursor: str = ""


@runtime_checkable
class Searchable(Protocol):
    """A storage that keeps an index of words. Any thread may call `search`, as it may `get`.

    `searches` is False if the storage is configured without the index.
    """

    searches: bool

    def search(self, text: str, limit: int, cursor: str = "") -> Hits:
        """Finds the vCons that contain every word and every "quoted phrase" of `text`.

        The index holds subjects, parties, transcripts, text messages, tags and other analyses. A
        `text` without a word finds nothing. A search finds a vCon within seconds of its storing.

        Raises ValueError for a cursor that this storage did not make.
        """


@dataclass(frozen=True, slots=True)
class Finds:
    """A page of uuids that a query found. cursor: asks for the next page; "" if there is none."""

    uuids: Sequence[str]
    cursor: str = ""


@runtime_checkable
class Findable(Protocol):
    """A storage that has a query language. Any thread may call `find`, as it may `get`."""

    def find(self, query: str | dict[str, Any], limit: int, cursor: str = "") -> Finds:
        """Finds the vCons that match a query in the storage's own language, each once.

        Changes of a vCon do not move it to another page. So a vCon that exists during the whole
        search is on exactly one page.

        Raises ValueError for a query that the storage cannot run, or a cursor that it did not make.

        A storage may also have `check_query(query)`, which raises ValueError for an unusable query
        without asking the server. `conserver check` calls it.
        """


def all_unavailable(
    documents: Sequence[Document], reason: str, after_s: float | None = None
) -> list[Outcome]:
    """The outcome Unavailable for each of `documents`, all with the same reason."""
    return [Unavailable(reason, after_s)] * len(documents)
