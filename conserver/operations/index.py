"""vcon-server's index: vCons by the time of their making, and by a party's tel, mailto or name.

Whoever posts a document to vcon-server's routes has it indexed, and nobody else pays for it: no
script of the queue and no worker knows of the index. docs/decisions/vcon-server-index.md says why.

    vcons                           sorted set: created_at in s -> vcon:<uuid>. It is vcon-server's
                                    own, which producers fill by hand, too (VCON_SORTED_SET_NAME);
                                    a member may also be a bare uuid
    conserver:index:tel:<value>     sorted set: when it ends, in s -> uuid; the same for mailto and
                                    name
    conserver:indexed:<uuid>        set of the latter keys that hold the uuid. It lives for
                                    VCON_INDEX_EXPIRY
    conserver:indexing              there while one indexes all documents
    tel:<value>                     set of uuids that vcon-server or a producer has made: is read

A uuid is stale if neither its document nor its conserver:indexed key is there. It is removed where
it is found, and a few at random are looked at with each document that is added, so that an index
that nobody reads does not grow without bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from conserver.config.settings import Settings
from conserver.errors import OperationError, Rejected
from conserver.operations import documents
from conserver.operations.connection import Client
from conserver.queue import keys
from conserver.vcon.document import Vcon, numbered

TERMS = ("tel", "mailto", "name")
VALUE_CHARS_MAX = 512
"""A longer value is no telephone number, address or name."""

PARTIES_MAX = 1000
_PROBES = 5  # uuids that are looked at for each that is added
_ROUNDS = 20  # of one page, while stale ones are found in it
_SCAN = 500
_REBUILDS_S = 60  # It outlives by so much one who dies at it.


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list is wanted. since_s, until_s: the time of making, both included."""

    number: int = 1
    size: int = 50
    since_s: float | None = None
    until_s: float | None = None


def add(client: Client, settings: Settings, document: Vcon) -> None:
    """Index a document, in place of what is indexed of its uuid. With an expiry of 0, nothing."""
    keep_s, listed = settings.vcon_index_expiry_s, settings.vcon_sorted_set_name
    if not keep_s:
        return
    uuid, now_s = document.uuid, time.time()
    own, terms = keys.indexed(uuid), set(_terms_of(document))
    pipe = client.pipeline(transaction=False)
    pipe.smembers(own)
    pipe.zrandmember(listed, _PROBES)
    before, found = pipe.execute(raise_on_error=False)
    probes: list[bytes] = found if isinstance(found, list) else []
    pipe = client.pipeline()
    for member in probes:
        pipe.exists(*_signs_of_life(member))
    for key in _keys_in(before) - terms:
        pipe.zrem(key, uuid)
    for key in terms:
        pipe.zadd(key, {uuid: now_s + keep_s})
        pipe.zremrangebyscore(key, "-inf", now_s)
        pipe.expire(key, keep_s)
    pipe.delete(own)
    pipe.sadd(own, "", *terms)
    pipe.expire(own, keep_s)
    # The last one: a key of another type refuses it, and the rest is done all the same.
    pipe.zadd(listed, {keys.document(uuid): created_s(document.view.get("created_at"), now_s)})
    stale = [member for member, there in zip(probes, pipe.execute(), strict=False) if not there]
    if stale:
        client.zrem(listed, *stale)


def remove(client: Client, settings: Settings, uuid: str) -> None:
    """Forget a uuid: its document was deleted, or is nowhere."""
    own = keys.indexed(uuid)
    indexed = _keys_in(client.smembers(own))
    pipe = client.pipeline(transaction=False)
    for key in indexed:
        pipe.zrem(key, uuid)
    pipe.delete(own)
    pipe.zrem(settings.vcon_sorted_set_name, keys.document(uuid), uuid)
    pipe.execute(raise_on_error=False)


def find(client: Client, wanted: dict[str, str]) -> list[str]:
    """The uuids of vCons in which a party has each value that is wanted, sorted.

    Args:
        wanted: some of tel, mailto and name. It need not be the same party for all of them.
    """
    now_s = time.time()
    pipe = client.pipeline(transaction=False)
    for term, value in wanted.items():
        pipe.zrangebyscore(keys.index(term, value), now_s, "+inf")
        pipe.smembers(f"{term}:{value}")
    answers = [found if not isinstance(found, Exception) else [] for found in
               pipe.execute(raise_on_error=False)]  # fmt: skip
    pairs = zip(answers[::2], answers[1::2], strict=True)
    matching: set[bytes] = set.intersection(*({*ours, *theirs} for ours, theirs in pairs))
    living = {_uuid(member) for member in _living(client, "", sorted(matching))}
    stale = [member for member in matching if _uuid(member) not in living]
    if stale:
        pipe = client.pipeline(transaction=False)
        for term, value in wanted.items():
            pipe.zrem(keys.index(term, value), *stale)
            pipe.srem(f"{term}:{value}", *stale)
        pipe.execute(raise_on_error=False)
    return sorted(living)


def newest(client: Client, settings: Settings, page: Page) -> list[str]:
    """The uuids of one page of the list, the newest first. Stale ones that are found are removed.

    Raises:
        redis.ResponseError: the key of the list has another type.
    """
    listed = settings.vcon_sorted_set_name
    upper = "+inf" if page.until_s is None else page.until_s
    lower = "-inf" if page.since_s is None else page.since_s
    start = (page.number - 1) * page.size
    found: list[bytes] = []
    for _ in range(_ROUNDS):
        members = client.zrevrangebyscore(listed, upper, lower, start=start, num=page.size)
        found = _living(client, listed, members)
        if len(found) == len(members):
            break
    return [_uuid(member) for member in found]


def rebuild(client: Client, settings: Settings) -> int:
    """Index every document that is in Redis now. Returns how many keys `vcon:*` there are.

    It reads all of them, so it takes its time; others work on meanwhile. One at a time does it:
    many at once would be more work for Redis, and find the same.

    Raises:
        OperationError: another one is at it, on whichever host.
    """
    if not client.set(keys.INDEXING, 1, nx=True, ex=_REBUILDS_S):
        what = "all documents are being indexed already: ask again when that has ended"
        raise OperationError(what, "conflict")
    count, renew_s = 0, time.monotonic()
    try:
        for key in client.scan_iter(keys.document("*"), count=_SCAN):
            count += 1
            text = documents.read(client, _uuid(key)).text
            with suppress(Rejected):  # Whatever else somebody has put there.
                if text is not None:
                    add(client, settings, Vcon.parse(text))
            if time.monotonic() > renew_s + _REBUILDS_S / 4:
                client.expire(keys.INDEXING, _REBUILDS_S)
                renew_s = time.monotonic()
    finally:
        client.delete(keys.INDEXING)
    return count


def created_s(value: Any, otherwise_s: float) -> float:
    """A vCon's created_at in seconds since 1970: ISO 8601 (without a zone: UTC), or a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        at = datetime.fromisoformat(str(value))
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return otherwise_s


def _living(client: Client, listed: str, members: Sequence[bytes]) -> list[bytes]:
    """Those of `members` that are not stale, in their order. The others leave the set `listed`."""
    pipe = client.pipeline(transaction=False)
    for member in members:
        pipe.exists(*_signs_of_life(member))
    alive = dict(zip(members, pipe.execute(), strict=True))
    stale = [member for member, there in alive.items() if not there]
    if stale and listed:
        client.zrem(listed, *stale)
    return [member for member in members if alive[member]]


def _signs_of_life(member: bytes) -> tuple[str, str]:
    """The keys of which one is there as long as a member is not stale."""
    return keys.document(_uuid(member)), keys.indexed(_uuid(member))


def _terms_of(document: Vcon) -> Iterator[str]:
    """The keys under which a document is found. A signed or encrypted one shows no parties."""
    for _, party in list(numbered(document.parties))[:PARTIES_MAX]:
        for term in TERMS:
            value = party.get(term)
            if isinstance(value, str) and 0 < len(value) <= VALUE_CHARS_MAX:
                yield keys.index(term, value)


def _keys_in(found: object) -> set[str]:
    texts: Iterable[bytes] = found if isinstance(found, set) else ()
    return {text.decode("utf-8", "replace") for text in texts if text}


def _uuid(member: bytes) -> str:
    """The uuid of a member, which is `vcon:<uuid>` or the uuid alone."""
    return member.decode("utf-8", "replace").removeprefix(keys.document(""))
