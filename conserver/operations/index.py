"""vcon-server's index: vCons by their time of creation, and by a party's tel, mailto or name.

Only vcon-server's routes write this index, when a client posts a document to them. The queue's
scripts and the workers do not use it, so other documents cost nothing.
docs/decisions/vcon-server-index.md says why.

    vcons                           sorted set: created_at in s -> vcon:<uuid>. vcon-server defined
                                    this key (VCON_SORTED_SET_NAME), and producers also write it; a
                                    member may also be a bare uuid
    conserver:index:tel:<value>     sorted set: when the entry expires, in s -> uuid; the same for
                                    mailto and name
    conserver:indexed:<uuid>        set of the conserver:index keys that contain the uuid. It
                                    expires after VCON_INDEX_EXPIRY
    conserver:indexing              exists while a request indexes all documents
    tel:<value>                     set of uuids, written by vcon-server or a producer; only read

A uuid is stale if neither its document nor its conserver:indexed key exists. A read removes the
stale uuids that it finds. Each added document also checks a few random uuids, so that an index that
nobody reads does not grow without bound.
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
"""A longer value is not indexed: it is no telephone number, address or name."""

PARTIES_MAX = 1000
_PROBES = 5  # how many random uuids are checked for each document that is added
_ROUNDS = 20  # how often one page is read again because stale uuids were removed from it
_SCAN = 500
_REBUILDS_S = 60  # conserver:indexing expires so long after its process has died


@dataclass(frozen=True, slots=True)
class Page:
    """Selects one page of vCons. since_s, until_s: limits of created_at, both included."""

    number: int = 1
    size: int = 50
    since_s: float | None = None
    until_s: float | None = None


def add(client: Client, settings: Settings, document: Vcon) -> None:
    """Index a document; replaces earlier entries of its uuid. Does nothing if the index's expiry is
    0.
    """
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
    # The last command: if that key has the wrong type, the other commands are done all the same.
    pipe.zadd(listed, {keys.document(uuid): created_s(document.view.get("created_at"), now_s)})
    stale = [member for member, there in zip(probes, pipe.execute(), strict=False) if not there]
    if stale:
        client.zrem(listed, *stale)


def remove(client: Client, settings: Settings, uuid: str) -> None:
    """Remove a uuid from the index, because its document was deleted or does not exist."""
    own = keys.indexed(uuid)
    indexed = _keys_in(client.smembers(own))
    pipe = client.pipeline(transaction=False)
    for key in indexed:
        pipe.zrem(key, uuid)
    pipe.delete(own)
    pipe.zrem(settings.vcon_sorted_set_name, keys.document(uuid), uuid)
    pipe.execute(raise_on_error=False)


def find(client: Client, wanted: dict[str, str]) -> list[str]:
    """The uuids, sorted, of vCons that have a party with each wanted value.

    Args:
        wanted: "tel", "mailto" or "name" -> value. Different parties may have the values.
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
    """The uuids of one page, the newest first. Removes the stale uuids that it finds.

    Raises:
        redis.ResponseError: the key of the sorted set has the wrong type.
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
    """Index every document that is in Redis. Returns how many keys `vcon:*` it found.

    It reads all documents, so it takes long; the queue works on meanwhile. Only one rebuild runs at
    a time, over all hosts, because a second one would find the same.

    Raises:
        OperationError: "conflict": another rebuild is running, on any host.
    """
    if not client.set(keys.INDEXING, 1, nx=True, ex=_REBUILDS_S):
        what = "all documents are being indexed already: ask again when that has ended"
        raise OperationError(what, "conflict")
    count, renew_s = 0, time.monotonic()
    try:
        for key in client.scan_iter(keys.document("*"), count=_SCAN):
            count += 1
            text = documents.read(client, _uuid(key)).text
            with suppress(Rejected):  # the value is no vCon
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
    """The members that are not stale, in their order. Removes the stale ones from `listed`."""
    pipe = client.pipeline(transaction=False)
    for member in members:
        pipe.exists(*_signs_of_life(member))
    alive = dict(zip(members, pipe.execute(), strict=True))
    stale = [member for member, there in alive.items() if not there]
    if stale and listed:
        client.zrem(listed, *stale)
    return [member for member in members if alive[member]]


def _signs_of_life(member: bytes) -> tuple[str, str]:
    """Two keys: a member is stale if neither exists."""
    return keys.document(_uuid(member)), keys.indexed(_uuid(member))


def _terms_of(document: Vcon) -> Iterator[str]:
    """The index keys for a document. A signed or encrypted document has no readable parties."""
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
