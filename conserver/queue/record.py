"""A claimed item, and the record that it is in Redis.

Claimed is one item of a claim's answer. Progress is the state in a record: what was done for the
item, so that the next worker that gets it does not do it (or pay for it) again.
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
    """One item that this worker holds, under its token, in the epoch of the claim that took it.

    what: where its document is: "inline" (it is the payload), "stored" (`length` bytes; in `text`,
    or else to be read with GET), "text" (in `text`, for RedisJSON), "missing", or
    "type:<TYPE> <key>" if the key holds another type. revision: of the document; 0 for an inline
    one. replaced: another program has replaced the document that `state` describes. etags: storage
    -> ETag of the document in it.
    """

    token: str
    epoch: int
    deaths: int
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
    """Parse a record; prelude.lua describes its form. Raises ValueError if it is none."""
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
    )


def parse_claimed(entry: list[Any]) -> Claimed:
    """Parse one item of claim.lua's answer: [record, what, text (of a stored document: its length),
    revision, replaced, [field, value, ...] with the ETags] and maybe the text of a stored document.
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
    if fields:  # as a rule there are none
        pairs = zip(fields[::2], fields[1::2], strict=True)
        claimed.etags = {k[2:].decode(): v.decode() for k, v in pairs if k[:2] == b"e:"}
    return claimed


THROTTLED = "throttled:"
AGAIN = "again:"


@dataclass(slots=True)
class Progress:
    """What was done for an item. Its record carries this from worker to worker.

    links: names of the finished links, in order. owed: storages that must still be written; None
    until all links are finished. attempts: unsuccessful runs, including those that ended because a
    link asked for a retry; failures: those that ended with an error. runs: link -> in how many
    unsuccessful runs it ran. error: of the last of them. pushes: (list, uuid) that finished links
    have asked to push; expire_s: the expiry that they have asked for. etags: storage -> ETag.
    trace: the span of the latest attempt that wrote its progress, as a W3C traceparent; "" where
    traces are off. rate_slots: rates of which it has a slot that it has not used yet, such as
    `link:summarize`, or AGAIN and the name where all near slots were taken; or THROTTLED and the
    link whose server wants no calls before its time.
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
        """Count an unsuccessful run: from the first unfinished link of a chain to `last`.

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
        """What is kept if all links must run again: the counts of attempts."""
        return Progress(
            attempts=self.attempts,
            failures=self.failures,
            runs=self.runs,
            error=self.error,
            trace=self.trace,
        )

    def dump(self) -> bytes:
        """The state as bytes for the record; b"" if nothing was done yet, so that the scripts can
        keep a new item as a bare payload.
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
        if self.trace:
            state["trace"] = self.trace
        if self.rate_slots:
            state["slots"] = self.rate_slots
        return orjson.dumps(state) if state else b""

    @classmethod
    def load(cls, state: bytes) -> Progress:
        """Parse a record's state; b"" is that nothing was done.

        Raises:
            ValueError: Conserver has not written it: somebody edited the record.
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
            trace=values.get("trace", ""),
            rate_slots=values.get("slots", []),
        )


def _check(values: Any) -> None:
    """Raise ValueError for JSON that is not the progress of an item."""
    if not isinstance(values, dict):
        raise ValueError("it is no object")
    for name, kinds in _KINDS.items():
        if name in values and not isinstance(values[name], kinds):
            raise ValueError(f"{name} is of another type")
    if any(not isinstance(pair, list) or len(pair) != 2 for pair in values.get("pushes", ())):
        raise ValueError("pushes are no pairs")


# field -> its type or types
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
    "trace": str,
}
