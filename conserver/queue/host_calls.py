"""The scripts that coordinators call: hosts, registrations, what comes back and what is due.

One function per script, as in calls.py, with how its answer is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from conserver.process.messages import Blame
from conserver.queue import keys
from conserver.queue.calls import SCRIPT_BYTES
from conserver.queue.script import Call

RETURN_BATCH = 64
"""Items that one call returns, which bounds the work of Redis."""


def register(host: str, consumer: str, lists: Iterable[str]) -> Call:
    """Register a consumer before its process starts."""
    return Call("register", [keys.host(host), keys.HOSTS, keys.LISTS], [host, consumer, *lists])


def beat(host: str, value: str, status: Mapping[str, str | bytes | int]) -> Call:
    """Write a host's heartbeat. See read_before and read_registrations for the answer."""
    fields = [word for pair in status.items() for word in pair]
    return Call("beat", [keys.host(host), keys.HOSTS], [host, value, *fields])


def read_before(reply: list[bytes]) -> tuple[str, bool]:
    """The beat before ("" for none), and whether Redis did not know the host."""
    return reply[0].decode(), reply[1] == b"1"


def read_registrations(reply: list[bytes]) -> dict[str, str]:
    """Consumer -> number of its last claim, or "void"."""
    return {reply[i].decode(): reply[i + 1].decode() for i in range(2, len(reply), 2)}


class Returned(NamedTuple):
    """What one call of return.lua did.

    returned: items; left: items still held; suspects: among the returned; deaths: counted;
    strange: elements that are no records and were set aside; cancelled: items that an operator had
    cancelled and that have ended.
    """

    returned: int
    left: int
    suspects: int
    deaths: int
    strange: int = 0
    cancelled: int = 0


def return_items(host: str, consumer: str, blame: Blame, most: int = RETURN_BATCH) -> Call:
    """Return the items of a dead consumer, `most` per call. To be repeated until Returned.left is
    0, and once more: that call deletes the registration.
    """
    args: list[Any] = [consumer, blame.kind, most, host, _note(blame, ""), len(blame.items)]
    for token, epoch in blame.items:
        args += (token, epoch, _note(blame, token if token in blame.notes else ""))
    return Call(
        "return", [keys.host(host), keys.inflight(consumer), keys.HOSTS], [*args, *blame.over_limit]
    )


def _note(blame: Blame, token: str) -> str:
    """A note as a record contains it: percent-encoded, without spaces."""
    note = blame.notes.get(token)
    return quote(orjson.dumps(dict(note)), safe="") if note else ""


def reap(host: str, seen_beat: str) -> Call:
    """Declare a host dead if its beat is still `seen_beat`. Returns its consumers, or None if it
    lives.
    """
    return Call("reap", [keys.host(host), keys.HOSTS], [host, seen_beat])


def promote(name: str, most: int, everything: bool = False) -> Call:
    """Return parked records of one list that are due. Returns how many; to be repeated until it is
    0.
    """
    upto = "inf" if everything else ""
    return Call("promote", [keys.parked(name)], [most, upto, SCRIPT_BYTES])


def put_back(name: str, most: int) -> Call:
    """Move payloads that a list waiter has moved and nobody has claimed back to their list. Returns
    how many; to be repeated until it is 0.
    """
    return Call("put_back", [name, keys.returned(name)], [most, SCRIPT_BYTES])


def sweep(name: str, keep_s: int, most: int) -> Call:
    """Delete the reasons of dead letters older than `keep_s` seconds. Returns how many."""
    return Call("sweep", [keys.dead(name)], [keep_s, most])


def waiting(names: Sequence[str], every_ms: int) -> Call:
    """Look since when the oldest item of each list has waited. See read_waiting.

    Args:
        every_ms: a list is looked at again when its last look is so old.
    """
    wanted: list[str] = [keys.WAITING]
    for name in names:
        wanted += (name, keys.returned(name), keys.suspects(name))
    return Call("waiting", wanted, [every_ms, *names])


def read_waiting(names: Sequence[str], reply: list[bytes]) -> dict[str, float | None]:
    """The answer of `waiting` for the same names: for how many seconds the oldest item of each list
    has waited, 0.0 where none waits, None where a key has the wrong type.
    """
    now_ms, *since = reply
    return {name: _waited_s(now_ms, one) for name, one in zip(names, since, strict=True)}


def _waited_s(now_ms: bytes, since: bytes) -> float | None:
    if since == b"-":
        return None
    return max(int(now_ms) - int(since), 0) / 1000 if since else 0.0
