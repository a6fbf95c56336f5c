"""The scripts that coordinators call: one function for each, which builds a Call, as in calls.py.

They concern hosts, registrations, the items of dead consumers, parked items that are due, and the
age of waiting items. The functions read_... parse the answers.
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
"""Most items that one call of return.lua returns, so that Redis is not blocked for long."""


def register(host: str, consumer: str, lists: Iterable[str]) -> Call:
    """Register a consumer before its process starts."""
    return Call("register", [keys.host(host), keys.HOSTS, keys.LISTS], [host, consumer, *lists])


def beat(host: str, value: str, status: Mapping[str, str | bytes | int]) -> Call:
    """Write a host's heartbeat. read_before and read_registrations parse the answer."""
    fields = [word for pair in status.items() for word in pair]
    return Call("beat", [keys.host(host), keys.HOSTS], [host, value, *fields])


def read_before(reply: list[bytes]) -> tuple[str, bool]:
    """The previous beat ("" for none), and whether the host was missing in conserver:hosts."""
    return reply[0].decode(), reply[1] == b"1"


def read_registrations(reply: list[bytes]) -> dict[str, str]:
    """Consumer -> number of its last claim, or "void"."""
    return {reply[i].decode(): reply[i + 1].decode() for i in range(2, len(reply), 2)}


class Returned(NamedTuple):
    """The counts that one call of return.lua answers.

    returned: items that went back; left: items that the consumer still holds; suspects: how many of
    the returned items are suspects; deaths: for how many items the death was counted; strange:
    elements that are no records, and were set aside; cancelled: items that an operator had
    cancelled, and that the script has ended.
    """

    returned: int
    left: int
    suspects: int
    deaths: int
    strange: int = 0
    cancelled: int = 0


def return_items(
    host: str, consumer: str, blame: Blame, most: int = RETURN_BATCH, keep_s: int = 0
) -> Call:
    """Return the items of a dead consumer, `most` per call. Repeat the call until Returned.left is
    0, and then once more: that last call deletes the registration.

    Args:
        keep_s: for how long the documents of cancelled items are kept; 0: for ever.
    """
    args: list[Any] = [consumer, blame.kind, most, host, _encoded(blame.note), keep_s]
    for token, epoch, counts, note in blame.items:
        args += (token, epoch, int(counts), _encoded(note or blame.note))
    return Call("return", [keys.host(host), keys.inflight(consumer), keys.HOSTS], args)


def _encoded(note: Mapping[str, str]) -> str:
    """A note, percent-encoded for the record; "" for none."""
    return quote(orjson.dumps(dict(note)), safe="") if note else ""


def reap(host: str, seen_beat: str) -> Call:
    """Declare a host dead if its beat is still `seen_beat`. Returns the host's consumers, or None
    if the host lives.
    """
    return Call("reap", [keys.host(host), keys.HOSTS], [host, seen_beat])


def promote(name: str, most: int, everything: bool = False) -> Call:
    """Return parked records of one list that are due; `everything`: also those that are not due.
    Returns how many. Repeat the call until the answer is 0.
    """
    upto = "inf" if everything else ""
    return Call("promote", [keys.parked(name)], [most, upto, SCRIPT_BYTES])


def put_back(name: str, most: int) -> Call:
    """Move bare payloads from `returned` back to their list. A list waiter had moved them, and no
    worker claimed them. Returns how many. Repeat the call until the answer is 0.
    """
    return Call("put_back", [name, keys.returned(name)], [most, SCRIPT_BYTES])


def sweep(name: str, keep_s: int, most: int) -> Call:
    """Delete the reasons of dead letters older than `keep_s` seconds. Returns how many."""
    return Call("sweep", [keys.dead(name)], [keep_s, most])


def waiting(names: Sequence[str], every_ms: int) -> Call:
    """Find how long the oldest item of each list has waited. read_waiting parses the answer.

    Args:
        every_ms: the script takes a new sample of a list if the last sample is older than this.
    """
    wanted: list[str] = [keys.WAITING]
    for name in names:
        wanted += (name, keys.returned(name), keys.suspects(name))
    return Call("waiting", wanted, [every_ms, *names])


def read_waiting(names: Sequence[str], reply: list[bytes]) -> dict[str, float | None]:
    """Parse the answer of `waiting` for the same names: list -> for how many seconds its oldest
    item has waited; 0.0 if no item waits, None if a key has the wrong type.
    """
    now_ms, *since = reply
    return {name: _waited_s(now_ms, one) for name, one in zip(names, since, strict=True)}


def _waited_s(now_ms: bytes, since: bytes) -> float | None:
    if since == b"-":
        return None
    return max(int(now_ms) - int(since), 0) / 1000 if since else 0.0
