"""Parses records: the form in which Redis holds an item after its first claim.

Claimed is one item of a claim's answer. Progress is the state in a record. It says which work on
the item is done, so that the next worker does not do (and pay for) that work again.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from types import NoneType
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

JOB_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Source(enum.Enum):
    """Where the document of a claimed item is."""

    INLINE = "inline"  # the payload is the document
    STORED = "stored"  # at vcon:<uuid>
    MISSING = "missing"  # not in Redis
    TOO_LARGE = "too_large"  # at vcon:<uuid>, and larger than CONSERVER_MAX_DOCUMENT_BYTES
    BAD_KEY = "bad_key"  # not known: a key of the document has the wrong type


@dataclass(slots=True)
class Claimed:
    """One item that this worker holds, under its token, in the epoch of the claim that took it.

    Attributes:
        text: the document; b"" if it was not read yet.
        length: of the document at vcon:<uuid>, or of a payload that claim.lua has cut.
        revision: of the document; 0 for an inline document.
        replaced: another program has replaced the document that `state` describes.
        etags: storage -> ETag of the document in that storage.
        bad_key: the key of the wrong type, and its type.
        refused: why the item must not run: (cause, detail); refusals.py has the causes.
        note: `last_death`, percent-encoded.
    """

    token: str
    epoch: int
    deaths: int
    suspect: bool
    first_seen_ms: int
    list: str
    state: bytes
    payload: bytes
    source: Source = Source.MISSING
    text: bytes = b""
    length: int = 0
    revision: int = 0
    replaced: bool = False
    etags: dict[str, str] = field(default_factory=dict)
    bad_key: tuple[str, str] = ("", "")
    refused: tuple[str, str] | None = None
    note: bytes = b""

    @property
    def job(self) -> str:
        """The job that the item belongs to, from the end of its token; "" for none."""
        return self.token.partition("#")[2]

    @property
    def last_death(self) -> dict[str, str]:
        """The note about the last death that the item was blamed for (Blame.notes); {} for none."""
        try:
            note = orjson.loads(unquote_to_bytes(self.note))
        except ValueError:  # There is none, or another program has written the record.
            return {}
        return {k: str(v) for k, v in note.items()} if isinstance(note, dict) else {}


def split_job(payload: bytes) -> tuple[bytes, str]:
    """Split a pushed payload, `<uuid>` or `<uuid>#<job>`, into its uuid and its job ("" for none).

    A payload that is a document is returned whole, with job "".
    """
    uuid, found, job = payload.rpartition(b"#")
    if payload[:1] == b"{" or not found or not uuid or not JOB_ID.fullmatch(job):
        return payload, ""
    return uuid, job.decode()


def parse(record: bytes) -> Claimed:
    """Parse a record; prelude.lua describes the form. Raises ValueError for other bytes."""
    header, found, body = record.partition(b"\n")
    if not found or header[:1] != b"\x01":
        raise ValueError("not a record of the queue")
    token, epoch, deaths, flags, seen, _write, _revision, size, name = header[1:].split(b" ", 8)
    state_bytes = int(size)
    return Claimed(
        token=token.decode(),
        epoch=int(epoch),
        deaths=int(deaths),
        suspect=flags[:1] == b"s",
        first_seen_ms=int(seen),
        list=name.decode(),
        state=body[:state_bytes],
        payload=body[state_bytes:],
        note=flags.partition(b":")[2],
    )


def parse_claimed(entry: list[Any]) -> Claimed:
    """Parse one item of claim.lua's answer: [record, what, text (or a length), revision, replaced,
    [ETag field, value, ...]]. A small stored document may follow.
    """
    claimed = parse(entry[0])
    what, text = entry[1], entry[2]
    if what == b"stored":
        claimed.source, claimed.length = Source.STORED, int(text)
        claimed.text = entry[6] if len(entry) > 6 else b""
    elif what == b"text":  # of a RedisJSON value
        claimed.source, claimed.text = Source.STORED, text
    elif what == b"inline":
        claimed.source = Source.INLINE
    elif what == b"cut" or what == b"expired":
        claimed.refused = what.decode(), text.decode()
        claimed.length = int(text) if what == b"cut" else 0
    elif what != b"missing":
        kind, _, key = what.removeprefix(b"type:").decode().partition(" ")
        claimed.source, claimed.bad_key = Source.BAD_KEY, (key, kind)
    claimed.revision = int(entry[3])
    claimed.replaced = entry[4] == b"1"
    fields = entry[5]
    if fields:  # mostly empty
        pairs = zip(fields[::2], fields[1::2], strict=True)
        claimed.etags = {k[2:].decode(): v.decode() for k, v in pairs if k[:2] == b"e:"}
    return claimed


THROTTLED = "throttled:"
AGAIN = "again:"


@dataclass(slots=True)
class Progress:
    """The work that is done on an item. The item's record carries it from worker to worker.

    Attributes:
        links: names of the finished links, in order.
        owed: storages that must still be written; None until all links are finished.
        attempts: unsuccessful runs of the chain, with those that a link ended by Retry.
        failures: unsuccessful runs that ended with an error.
        runs: link -> in how many unsuccessful runs the link ran.
        error: of the last unsuccessful run.
        pushes: (list, uuid) pairs that finished links have asked to push.
        expire_s: the expiry that finished links have asked for.
        etags: storage -> ETag.
        trace: the span of the latest attempt that wrote its progress, as a W3C traceparent; "" if
            traces are off.
        rate_slots: one entry per rate or throttled link:
            - the name of a rate, such as `link:summarize`: a slot that the item has not used yet;
            - AGAIN and the name of a rate: it had no near slot, so the item must ask again;
            - THROTTLED and a link: the link's server wants no calls before a certain time.
    """

    links: list[str] = field(default_factory=list)
    owed: list[str] | None = None
    attempts: int = 0
    failures: int = 0
    runs: dict[str, int] = field(default_factory=dict)
    error: str = ""
    pushes: list[tuple[str, str]] = field(default_factory=list)
    expire_s: int | None = None
    etags: dict[str, str] = field(default_factory=dict)
    trace: str = ""
    rate_slots: list[str] = field(default_factory=list)

    def count_runs(self, names: Sequence[str], last: str) -> None:
        """Count an unsuccessful run for each link that ran: from the first unfinished link of the
        chain to `last`.

        Args:
            names: the chain's links.
            last: the link in which the run ended.
        """
        done = len(self.links)
        first = done if tuple(names[:done]) == tuple(self.links) else 0
        if last in names[first:]:
            for name in names[first : names.index(last, first) + 1]:
                self.runs[name] = self.runs.get(name, 0) + 1

    def anew(self) -> Progress:
        """The progress of an item whose links must all run again: only the counts are kept."""
        return Progress(
            attempts=self.attempts,
            failures=self.failures,
            runs=self.runs,
            error=self.error,
            trace=self.trace,
        )

    def dump(self) -> bytes:
        """The progress as bytes, for the record. b"" if no work is done yet: then the scripts can
        put the item back as a bare payload.
        """
        found = zip(_FIELDS, _values(self), _UNSET, strict=True)
        state = {name: value for name, value, unset in found if value != unset}
        return orjson.dumps(state) if state else b""

    @classmethod
    def load(cls, state: bytes) -> Progress:
        """Parse a record's state; b"" means that no work is done.

        Raises:
            ValueError: Conserver has not written this state; somebody has edited the record.
        """
        if not state:
            return cls()
        values = orjson.loads(state)
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        known = {name: values[name] for name in _FIELDS.keys() & values.keys()}
        for name, value in known.items():
            if not _FIELDS[name][1](value):
                raise ValueError(f"{name} is of another type")
        progress = cls(**{_FIELDS[name][0]: value for name, value in known.items()})
        progress.pushes = [(name, uuid) for name, uuid in progress.pushes]
        return progress


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


# The name of a field in the record -> the attribute of Progress, the check of a value that was
# read. A value that the record lacks is that of a new Progress.
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "links": ("links", _are_texts),
    "owed": ("owed", lambda value: value is None or _are_texts(value)),
    "attempts": ("attempts", _is_count),
    "failures": ("failures", _is_count),
    "runs": ("runs", lambda value: isinstance(value, dict) and all(map(_is_count, value.values()))),
    "error": ("error", _is_text),
    "pushes": (
        "pushes",
        lambda value: (
            isinstance(value, list) and all(_are_texts(pair) and len(pair) == 2 for pair in value)
        ),
    ),
    "expire_s": ("expire_s", lambda value: isinstance(value, (int, float, NoneType))),
    "etags": ("etags", lambda value: isinstance(value, dict) and _are_texts([*value.values()])),
    "trace": ("trace", _is_text),
    "slots": ("rate_slots", _are_texts),
}
_values = attrgetter(*(attribute for attribute, _ in _FIELDS.values()))
_UNSET = _values(Progress())
