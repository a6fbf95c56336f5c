"""A claimed item as a value, and the record that carries it through Redis.

Claimed is what a claim answers for one item. Progress is the state that a record carries once there
is any: what has been done must not be done (or paid) again by whoever gets the item next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

import orjson

JOB_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Claimed:
    """One item, held under `token` in the epoch of the claim that took it.

    `what` says where its document is: "inline" (it is the payload), "stored" (to be read with GET,
    unless `text` has it already; `length` bytes), "text" (in `text`, for RedisJSON), "missing", or
    "type:<TYPE> <key>" for a key that holds something else. `revision` is 0 for inline documents.
    `replaced`: somebody has replaced the document that `state` is about.
    """

    token: str
    epoch: int
    deliveries: int
    suspect: bool
    first_seen_ms: int
    list: str
    state: bytes
    payload: bytes
    what: str = "missing"
    text: bytes = b""
    length: int = 0
    revision: int = 0
    replaced: bool = False
    etags: dict[str, str] = field(default_factory=dict)

    @property
    def job(self) -> str:
        """The job that it belongs to, "" for none: the end of its token."""
        return self.token.partition("#")[2]


def split_job(payload: bytes) -> tuple[bytes, str]:
    """A pushed payload, `<uuid>` or `<uuid>#<job>`, as its uuid and its job ("" for none).

    A payload that is a document has none, whatever it ends with.
    """
    uuid, found, job = payload.rpartition(b"#")
    if payload[:1] == b"{" or not found or not uuid or not JOB_ID.fullmatch(job):
        return payload, ""
    return uuid, job.decode()


def parse(record: bytes) -> Claimed:
    """Read a record (see prelude.lua for its form). Raises ValueError when the text is not one."""
    header, found, body = record.partition(b"\n")
    if not found or header[:1] != b"\x01":
        raise ValueError("not a record of the queue")
    token, epoch, deliveries, flags, seen, _write, _revision, size, name = header[1:].split(b" ", 8)
    state_bytes = int(size)
    return Claimed(
        token=token.decode(),
        epoch=int(epoch),
        deliveries=int(deliveries),
        suspect=flags[:1] == b"s",
        first_seen_ms=int(seen),
        list=name.decode(),
        state=body[:state_bytes],
        payload=body[state_bytes:],
    )


def parse_claimed(entry: list[Any]) -> Claimed:
    """One item of claim.lua's answer: {record, what, text, revision, replaced, {etag field, value
    ...}}, and maybe the text of what is stored.
    """
    claimed = parse(entry[0])
    claimed.what = entry[1].decode()
    if claimed.what == "stored":
        claimed.length = int(entry[2])
        claimed.text = entry[6] if len(entry) > 6 else b""
    else:
        claimed.text = entry[2]
    claimed.revision = int(entry[3])
    claimed.replaced = entry[4] == b"1"
    fields = entry[5]
    if fields:  # only where there are ETags among them
        pairs = zip(fields[::2], fields[1::2], strict=True)
        claimed.etags = {k[2:].decode(): v.decode() for k, v in pairs if k[:2] == b"e:"}
    return claimed


@dataclass(slots=True)
class Progress:
    """What has been done for an item, as its record carries it between workers.

    links: names of the links that are done, in order. owed: storages still to be written, None
    while the links are not done. attempts: runs that came to nothing, retries that a link asked for
    included; failures: those among them that failed. runs: how many of them each link was part of.
    pushes, expire_s: effects of the links that are done. etags: what storages told.
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

    def count_runs(self, names: Sequence[str], last: str) -> None:
        """A run of a chain's links, from the first that is not done, ended with `last` and came to
        nothing.
        """
        done = len(self.links)
        first = done if tuple(names[:done]) == tuple(self.links) else 0
        if last in names[first:]:
            for name in names[first : names.index(last, first) + 1]:
                self.runs[name] = self.runs.get(name, 0) + 1

    def anew(self) -> Progress:
        """What stays of it where all links are to run again: what has been tried."""
        return Progress(
            attempts=self.attempts, failures=self.failures, runs=self.runs, error=self.error
        )

    def dump(self) -> bytes:
        """The state for the record; empty when there is none, so that a fresh item stays a bare
        payload.
        """
        state: dict[str, Any] = {}
        if self.links:
            state["links"] = self.links
        if self.owed is not None:
            state["owed"] = self.owed
        if self.attempts:
            state["attempts"] = self.attempts
            state["error"] = self.error
        if self.failures:
            state["failures"] = self.failures
        if self.runs:
            state["runs"] = self.runs
        if self.pushes:
            state["pushes"] = self.pushes
        if self.expire_s is not None:
            state["expire_s"] = self.expire_s
        if self.etags:
            state["etags"] = self.etags
        return orjson.dumps(state) if state else b""

    @classmethod
    def load(cls, state: bytes) -> Progress:
        """The progress in a record's state; nothing done when it is empty.

        Raises ValueError when it is none of ours: a record that was written by hand.
        """
        if not state:
            return cls()
        values = orjson.loads(state)
        _check(values)
        return cls(
            links=values.get("links", []),
            owed=values.get("owed"),
            attempts=values.get("attempts", 0),
            failures=values.get("failures", 0),
            runs=values.get("runs", {}),
            error=values.get("error", ""),
            pushes=[(name, uuid) for name, uuid in values.get("pushes", [])],
            expire_s=values.get("expire_s"),
            etags=values.get("etags", {}),
        )


def _check(values: Any) -> None:
    """Raise ValueError for what is not the progress of an item."""
    if not isinstance(values, dict):
        raise ValueError("it is no object")
    for name, kinds in _KINDS.items():
        if name in values and not isinstance(values[name], kinds):
            raise ValueError(f"{name} is of another type")
    if any(not isinstance(pair, list) or len(pair) != 2 for pair in values.get("pushes", ())):
        raise ValueError("pushes are no pairs")


_KINDS: dict[str, Any] = {
    "links": list,
    "owed": (list, NoneType),
    "attempts": int,
    "failures": int,
    "runs": dict,
    "error": str,
    "pushes": list,
    "expire_s": (int, float, NoneType),
    "etags": dict,
}
