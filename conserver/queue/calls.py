"""The scripts that workers call: one function for each, which builds a Call.

A Call is plain data; script.py and retrying_connection.py send it. The functions read_... parse the
answers. Every call may be repeated or arrive late; the scripts make that harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from conserver.queue import keys
from conserver.queue.record import Claimed, parse_claimed
from conserver.queue.script import Call

BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes of documents that are read in one call. In a claim, a byte of a pushed document counts
as four (see claim.lua), and the last item may exceed the limit.
"""
SCRIPT_BYTES = 1024 * 1024
"""Most bytes of documents in one call of a script; a larger document is sent by itself. 1 MiB
blocks Redis for 2.3 ms.
"""
BATCH_ITEMS = 128
"""Most items in one call. Redis spends 12 to 16 µs per item. Batches above 32 get no cheaper per
item; 128 keeps a call at some 2 ms.
"""
SMALL_BYTES = 64 * 1024
"""Most bytes of a document that is an argument of submit.lua, because Lua reads all of it. A larger
document goes to a key of its own, which submit.lua renames.
"""
ABSENT = -1
"""The base revision that says that there was no document."""


# ---- claiming ------------------------------------------------------------------------------------


class Demand(NamedTuple):
    """How many items a worker asks for from one list."""

    list: str
    most: int


class ClaimLimits(NamedTuple):
    """The limits of one claim; sizes are in bytes."""

    most: int = BATCH_ITEMS
    most_bytes: int = BATCH_BYTES
    etags: int = 0  # 1: return the ETags of earlier writes to storages
    payload_bytes: int = 8 * 1024 * 1024  # a larger payload is cut in the answer
    parked_cap: int = 100_000
    job_keep_s: int = 3600  # how long a job is kept after its end
    job_max_s: int = 604_800  # how long a job is kept at most


@dataclass(slots=True)
class Claim:
    """The answer to a claim.

    Attributes:
        more: how many items still wait in the lists that it claimed from.
        suspects: how many suspects wait.
        broken: pairs of a key that cannot be used and its type.
        throttled: links that must not be called, and for how many seconds.
        void: the registration is void, so the worker must end.
        late: Redis has answered a claim with a higher number before.
    """

    items: list[Claimed]
    more: int = 0
    suspects: int = 0
    broken: Sequence[tuple[str, str]] = ()
    throttled: Sequence[tuple[str, float]] = ()
    void: bool = False
    late: bool = False


def claim(
    host: str,
    consumer: str,
    number: int,
    empty: bool,
    demands: Iterable[Demand],
    limits: ClaimLimits,
    known: Iterable[str] = (),
) -> Call:
    """Claim items from several lists.

    Args:
        empty: the worker holds nothing, so it may get a suspect.
        known: tokens of the items that the worker holds. If the call is repeated, its answer leaves
            them out.
    """
    names: list[str] = [keys.host(host), keys.inflight(consumer), keys.CONTROL]
    args: list[str | int] = [consumer, number, "1" if empty else "0", *limits]
    for demand in demands:
        names.append(demand.list)
        args.append(demand.most)
    return Call("claim", names, args, known)


def read_claim(reply: list[Any]) -> Claim:
    """Parse the answer of claim.lua."""
    if reply[0] == b"void":
        return Claim([], void=True)
    if reply[0] == b"late":
        return Claim([], late=True)
    _, more, suspects, broken, items, throttled = reply
    return Claim(
        items=[parse_claimed(entry) for entry in items],
        more=int(more),
        suspects=int(suspects),
        broken=[(broken[i].decode(), broken[i + 1].decode()) for i in range(0, len(broken), 2)],
        throttled=[
            (throttled[i].decode(), throttled[i + 1] / 1000) for i in range(0, len(throttled), 2)
        ],
    )


# ---- while an item is held -----------------------------------------------------------------------


class Write(NamedTuple):
    """The document and the progress of one item, to be written.

    uuid: "" writes the progress only. base: the revision that was read; 0 overwrites the document
    unconditionally, ABSENT writes only if there is no document.
    """

    token: str
    epoch: int
    uuid: str
    base: int
    chain: str
    state: bytes
    body: bytes


def write(consumer: str, number: int, writes: Sequence[Write]) -> Call:
    """Write documents and progress of items that stay in flight."""
    args: list[Any] = [number, len(writes), *[entry.token for entry in writes]]
    for entry in writes:
        args += entry[1:]
    return Call("write", [keys.inflight(consumer)], args)


class Answer(NamedTuple):
    """What a write or a settle did for one item.

    kind        meaning, and which other fields are set
    written     revision: the document's new one
    settled
    lost        the item belongs to another consumer now
    late        a write with a higher number came before
    type        `key` has the wrong type `found`
    refused     found: RedisJSON's reason not to take the document
    conflict    revision, chain, text: of the newer document (text None: read it with GET).
                replaced: a producer has replaced the document that was read
    """

    kind: str
    revision: int = 0
    chain: str = ""
    text: bytes | None = None
    key: str = ""
    found: str = ""
    replaced: bool = False


_SETTLED = Answer("settled")


def read_answers(reply: list[Any]) -> list[Answer]:
    """Parse the answers of write.lua and settle.lua, one per item."""
    return [_SETTLED if entry[0] == b"settled" else _answer(entry) for entry in reply]


def _answer(entry: list[Any]) -> Answer:
    kind = entry[0].decode()
    if kind == "written":
        return Answer(kind, int(entry[1]))
    if kind == "conflict":
        replaced = entry[4] == b"1"
        return Answer(kind, int(entry[1]), entry[2].decode(), entry[3] or None, replaced=replaced)
    if kind == "type":
        return Answer(kind, key=entry[1].decode(), found=entry[2].decode())
    if kind == "refused":
        return Answer(kind, found=entry[1].decode())
    return Answer(kind)


def begin(consumer: str, token: str, epoch: int) -> Call:
    """Mark a suspect as begun. Returns 1, or 0 if the item was taken from the consumer."""
    return Call("begin", [keys.inflight(consumer)], [token, epoch])


class Hint(NamedTuple):
    """The progress of one running item of a job; `progress` is a JSON object, or b"" for none."""

    token: str
    epoch: int
    link: str
    progress: bytes
    attempts: int


def hint(consumer: str, hints: Sequence[Hint]) -> Call:
    """Write the progress of running items to their jobs. Returns how many jobs have changed."""
    return Call("hint", [keys.inflight(consumer)], [value for one in hints for value in one])


def told(job: str, seq: int, what: str, error: bytes = b"") -> Call:
    """Record in a job whether its notification was delivered. Returns 1, or 0 if the job is unknown
    by now or has another end.

    Args:
        seq: the sequence number of the job's change that the notification reports.
        what: "delivered" or "failed".
        error: why the delivery failed, as JSON.
    """
    return Call("told", [keys.job(job)], [seq, what, error])


# ---- items leave their consumer ------------------------------------------------------------------


class Settlement(NamedTuple):
    """One item's end.

    body b"": the document is not written, and base is its current revision. expiry_s 0: the
    document keeps its expiry in the year 2200 (prelude.lua). pushes: pairs of an egress list and
    the uuid to push. etags: storage -> ETag.
    """

    token: str
    epoch: int
    uuid: str
    base: int
    chain: str
    body: bytes
    expiry_s: int
    pushes: Sequence[tuple[str, str]]
    etags: Mapping[str, str]
    status: str = "completed"  # of its job, if it has one: completed, filtered or cancelled


def settle(consumer: str, settlements: Sequence[Settlement]) -> Call:
    """End items: push their uuids to egress lists, and set the expiries of their documents."""
    args: list[Any] = [len(settlements), *[entry.token for entry in settlements]]
    for entry in settlements:
        args += entry[1:7]
        args += (entry.status, len(entry.pushes))
        for name, uuid in entry.pushes:
            args += (name, uuid)
        args.append(len(entry.etags))
        for name, etag in entry.etags.items():
            args += (name, etag)
    return Call("settle", [keys.inflight(consumer)], args)


class Move(NamedTuple):
    """One item's move.

    Attributes:
        state: b"=" keeps the record's state.
        revision: of the document that the state describes.
        after_ms: how long the item is parked.
        why: one line of JSON: the reason of a dead letter, or what a parked item waits for.
    """

    token: str
    epoch: int
    state: bytes = b"="
    revision: int = 0
    after_ms: int = 0
    why: bytes = b""


MoveKind = Literal["release", "park", "dead"]


def move(kind: MoveKind, consumer: str, moves: Sequence[Move], keep_s: int = 0) -> Call:
    """Release, park or dead-letter items that the consumer holds.

    Args:
        kind: "release" returns items that have not begun, and counts nothing. Each item becomes the
            first of its list: pass the newest first to keep their order. "park" sets items aside
            for `after_ms`; "dead" makes them dead letters.
        keep_s: for how long the documents of dead letters are kept; 0: for ever.
    """
    args: list[Any] = [kind, keep_s]
    for entry in moves:
        args += entry
    return Call("move", [keys.inflight(consumer)], args)


# ---- what a consumer holds and its worker does not know ------------------------------------------


def stray(consumer: str, answered: int, tokens: Iterable[str]) -> Call:
    """Return to the queue the items that the consumer holds and that `tokens` lacks.

    Returns how many went back. Repeat the call until the answer is 0.

    Args:
        answered: the number of the latest claim that was answered.
        tokens: the items that the worker knows.
    """
    return Call("stray", [keys.inflight(consumer)], [answered, SCRIPT_BYTES, *tokens])
