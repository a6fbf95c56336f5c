"""Items that wait, many at once: try parked ones now, and empty lists.

Both look at each place page by page, twice, because items move meanwhile: what moves from one place
to another during both looks is missed, and a second call finds it. What comes to wait after the
beginning may be left alone, so that neither takes for ever while workers and producers go on. Each
item is changed by a call of its own, and only if it is still there.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError
from conserver.operations import audit, items, lists, parked
from conserver.operations.connection import Client
from conserver.operations.dead_letters import Progress
from conserver.operations.parked import Cause
from conserver.queue import elements, keys, lookup, operator_calls, record, script, wrong_type
from conserver.queue.names import name_of_element
from conserver.queue.record import Claimed

CAUSES: tuple[str, ...] = get_args(Cause)
HURRIED = ("retry", "storage")
"""The causes that `retry` means where none is named."""
PLACES = ("queued", "returned", "suspects", "parked")
UNKNOWN_AGE = "age"

_LOOKS = 2
_PROGRESS_EVERY = 1000  # elements looked at, between two reports while nothing is changed
_EXPIRED_TOGETHER = 20_000  # vCons whose other copies are looked for in one pass over all items


@dataclass(frozen=True, slots=True)
class WaitingFilter:
    """Which items that wait are meant. A field that is not set leaves none out.

    Attributes:
        names: lists; none means all.
        uuids: names of items, mostly uuids (queue/names.py).
        places: of PLACES.
        causes: what a parked item waits for, of CAUSES. An item that is not parked has none.
        storage: it is owed to this storage.
        error: a regular expression that is found in its latest error, in any case.
        older_s: how long ago it was claimed first, or its job was made. It matches no other item:
            nobody knows when a producer pushed that.
    """

    names: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    storage: str = ""
    error: str = ""
    older_s: float | None = None

    @property
    def restricts(self) -> bool:
        """Whether it leaves anything out of its lists."""
        return self != WaitingFilter(names=self.names)

    def check(self) -> None:
        """Raises InvalidArgumentError for a cause, a place or an expression that is none."""
        for field, given, known in (
            ("cause", self.causes, CAUSES),
            ("place", self.places, PLACES),
        ):
            for one in given:
                if one not in known:
                    raise InvalidArgumentError(
                        field, f"there is no {{}} `{one}` ({suggest(one, known)})"
                    )
        try:
            re.compile(self.error)
        except re.error as error:
            raise InvalidArgumentError("error", f"{{}} is no regular expression: {error}") from None

    def as_target(self) -> dict[str, Any]:
        """The fields that are set, as the audit shows them."""
        return {name: value for name, value in asdict(self).items() if value not in ((), "", None)}


@dataclass(frozen=True, slots=True)
class _Place:
    """One place of one list, and how its elements are read: `read(offset, most)`."""

    list: str
    name: str
    key: str
    read: Callable[[int, int], Sequence[bytes]]


class _Work:
    """One retry or emptying: its filter, its progress, and what it has met."""

    def __init__(
        self, client: Client, wanted: WaitingFilter, causes: Collection[str], limit: int
    ) -> None:
        """causes: those of the filter, or what stands for none."""
        self.client, self.wanted, self.causes, self.limit = client, wanted, causes, limit
        self.done = self.matching = self.total = 0
        self.left_out: Counter[str] = Counter()
        self._uuids = frozenset(wanted.uuids)
        self._now_ms = time.time() * 1000

    @property
    def progress(self) -> Progress:
        return Progress(self.done, self.matching, self.total, dict(self.left_out))

    @property
    def full(self) -> bool:
        """Whether as many as are wanted were found."""
        return bool(self.limit) and self.matching >= self.limit

    def look(
        self,
        place: _Place,
        most: int,
        change: Callable[[bytes], bool | None] | None,
        *,
        first: bool,
    ) -> Iterator[Progress]:
        """Changes what is meant of at most so many elements.

        Args:
            change: takes an element away from where `read` reads; returns whether it was there, or
                None where it is left there. None in a dry run.
            first: count what is left out; a second look meets it again.
        """
        kept = looked_at = 0
        length = elements.FIRST
        while looked_at < most and (page := place.read(kept, length)):
            for text in page[: most - looked_at]:
                if self.full:
                    return
                looked_at += 1
                changed: bool | None = None
                if self._means(place, text, first):
                    changed = change(text) if change else None
                    if changed or not change:
                        self.matching += 1
                        self.done += bool(changed)
                        yield self.progress
                kept += changed is None
                if looked_at % _PROGRESS_EVERY == 0:
                    yield self.progress
            length = elements.next_length(page, length, elements.PAGE_BYTES)

    def _means(self, place: _Place, text: bytes, first: bool) -> bool:
        wanted = self.wanted
        if self._uuids and name_of_element(text) not in self._uuids:
            return False
        if wanted.storage or wanted.error:
            state = parked.state_of(text)
            if wanted.storage and (state is None or wanted.storage not in (state.owed or ())):
                return False
            if wanted.error and not (state and re.search(wanted.error, state.error, re.IGNORECASE)):
                return False
        left_out = self._left_out(place, text)
        if left_out is not None and left_out and first:
            self.left_out[left_out] += 1
        return left_out is None

    def _left_out(self, place: _Place, text: bytes) -> str | None:
        """None for an item that is meant, else why it is not: "" where that need not be told."""
        if self.causes:
            cause = parked.cause_of(text) if place.name == "parked" else ""
            if cause not in self.causes:
                return "" if self.wanted.causes else cause
        if self.wanted.older_s is None:
            return None
        since_ms = _since_ms(self.client, text)
        if since_ms is None:
            return UNKNOWN_AGE
        return None if self._now_ms - since_ms >= self.wanted.older_s * 1000 else ""


def retry(
    client: Client,
    wanted: WaitingFilter,
    *,
    limit: int = 0,
    dry_run: bool = False,
    actor: str,
    configured: Collection[str] = (),
) -> Generator[Progress, None, None]:
    """Lets parked items be tried now that wait for another attempt or for a storage; at most
    `limit`, if it is not 0. What was submitted for later is meant only where `causes` names it.

    They are made due, and running hosts take them up within a second. Their attempts count on.
    Yields its progress with every item, and at least once; `left_out` says how many wait for
    something else. Closing the generator stops it between two items.

    Raises:
        InvalidArgumentError: see WaitingFilter.check; or a cause that cannot be hurried.
    """
    _check_retry(wanted)
    work = _Work(client, wanted, wanted.causes or HURRIED, limit)
    seconds, micros = client.time()
    began_ms = seconds * 1000 + micros // 1000
    places = [_later(client, name, began_ms) for name in _names(client, wanted, configured)]
    sizes = [_many(client, place.key) for place in places]
    work.total = sum(sizes)
    yield work.progress
    hurried: set[int] = set()
    try:
        for n in range(1 if dry_run else _LOOKS):
            for place, most in zip(places, sizes, strict=True):

                def change(text: bytes, name: str = place.list) -> bool | None:
                    item = hash(text[: text.find(b" ")])  # Its token, which it keeps for life.
                    if item in hurried:  # It has failed again meanwhile.
                        return None
                    hurried.add(item)
                    return bool(script.run(client, operator_calls.hurry(name, text, began_ms)))

                yield from work.look(place, most, None if dry_run else change, first=n == 0)
        yield work.progress  # What was left out since the last one.
    finally:
        if work.done:
            audit.record(client, actor, "retry", wanted.as_target(), work.done)


def empty(
    client: Client,
    wanted: WaitingFilter,
    *,
    limit: int = 0,
    dry_run: bool = False,
    actor: str,
    configured: Collection[str] = (),
    keep_s: int = 0,
) -> Generator[Progress, None, None]:
    """Takes items that wait out of lists for good; at most `limit`, if it is not 0.

    Their jobs end as cancelled, and their documents stay for `keep_s` (items.let_expire). What
    workers hold and dead letters are left alone. Yields its progress as `retry` does.

    Raises:
        InvalidArgumentError: see WaitingFilter.check; or no list is named.
    """
    if not wanted.names:
        raise InvalidArgumentError("lists", "emptying needs the names of {}")
    wanted.check()
    work = _Work(client, wanted, wanted.causes, limit)
    places = [place for name in wanted.names for place in _places(client, name, wanted)]
    sizes = [_many(client, place.key) for place in places]
    work.total = sum(sizes)
    yield work.progress
    gone: set[str] = set()

    def let_expire() -> None:
        uuids = gone.copy()
        gone.clear()
        items.let_expire(client, uuids, keep_s, configured)

    try:
        for n in range(1 if dry_run else _LOOKS):
            for place, most in zip(places, sizes, strict=True):

                def change(text: bytes, key: str = place.key) -> bool:
                    removed = bool(script.run(client, operator_calls.cancel(key, text)))
                    if removed:
                        gone.add(name_of_element(text))
                    return removed

                steps = work.look(place, most, None if dry_run else change, first=n == 0)
                for step in steps:
                    if len(gone) >= _EXPIRED_TOGETHER:
                        let_expire()
                    yield step
        yield work.progress
    finally:
        if work.done:
            audit.record(client, actor, "empty", wanted.as_target(), work.done)
            let_expire()


def _check_retry(wanted: WaitingFilter) -> None:
    wanted.check()
    for cause in wanted.causes:
        if cause in ("rate", "throttled"):
            why = "its rate has no place before" if cause == "rate" else "the server asked for that"
            raise InvalidArgumentError("cause", f"what waits for `{cause}` is not hurried: {why}")
    if set(wanted.places) - {"parked"}:
        raise InvalidArgumentError("place", "only parked items can be hurried: leave {} out")


def _names(client: Client, wanted: WaitingFilter, configured: Collection[str]) -> Sequence[str]:
    return wanted.names or lists.names(client, configured)


def _later(client: Client, name: str, began_ms: int) -> _Place:
    """The parked items of a list that are not due. One that is hurried is none of them any more."""
    key = keys.parked(name)

    def read(offset: int, most: int) -> Sequence[bytes]:
        found: list[bytes] = client.zrangebyscore(
            key, f"({began_ms}", "+inf", start=offset, num=most
        )
        return found

    return _Place(name, "parked", key, read)


def _places(client: Client, name: str, wanted: WaitingFilter) -> Iterator[_Place]:
    """In the order in which an item moves on, so that one that moves meanwhile is met later."""
    found = {"parked": keys.parked(name), "queued": name}
    found |= {"returned": keys.returned(name), "suspects": keys.suspects(name)}
    for place, key in found.items():
        if wanted.places and place not in wanted.places:
            continue
        if wanted.causes and place != "parked":
            continue
        get = client.zrange if place == "parked" else client.lrange

        def read(offset: int, most: int, key: str = key, get: Any = get) -> Sequence[bytes]:
            page: list[bytes] = get(key, offset, offset + most - 1)
            return page

        yield _Place(name, place, key, read)


def _many(client: Client, key: str) -> int:
    """How many elements a place has; 0 where its key has another type: nothing is done there."""
    kind: bytes = client.type(key)
    if kind.decode() != wrong_type.kind_of(key):
        return 0
    return int(client.zcard(key) if kind == b"zset" else client.llen(key))


def _since_ms(client: Client, text: bytes) -> float | None:
    """When an item was claimed first, or its job was made; None where nobody knows."""
    try:
        parsed: Claimed | None = record.parse(text)
    except ValueError:  # A payload, as it was pushed.
        parsed = None
    if parsed is not None and parsed.epoch:
        return parsed.first_seen_ms
    job = lookup.job_of(text)
    if not job or client.type(keys.job(job)) != b"hash":
        return None
    made: bytes | None = client.hget(keys.job(job), "created_ms")
    return float(made) if made and made.isdigit() else None
