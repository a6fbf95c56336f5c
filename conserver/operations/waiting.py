"""Changes many waiting items: `retry` tries parked items now, `empty` empties lists.

Both read each place page by page, and do so twice, because items move meanwhile. An item that moves
from one place to another during both passes is missed; a second call finds it. Items that arrive
after the beginning may be left alone, so that the work ends although workers and producers go on.
Each item is changed by its own script call, and only if it is still in its place.
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
from conserver.operations.dead_letter_moves import Progress
from conserver.operations.parked import Cause
from conserver.queue import elements, keys, lookup, operator_calls, record, script, wrong_type
from conserver.queue.names import name_of_element
from conserver.queue.record import Claimed

CAUSES: tuple[str, ...] = get_args(Cause)
HURRIED = ("retry", "storage")
"""The causes that `retry` selects if the filter names no cause."""
PLACES = ("queued", "returned", "suspects", "parked")
UNKNOWN_AGE = "age"

_LOOKS = 2
_PROGRESS_EVERY = 1000  # elements read between two reports of progress, if none is changed
_EXPIRED_TOGETHER = 20_000  # vCons for which one pass over all items looks for other items


@dataclass(frozen=True, slots=True)
class WaitingFilter:
    """Selects waiting items. A field that is not set excludes no item.

    Attributes:
        names: lists; empty means all.
        uuids: names of items, mostly uuids (queue/names.py).
        places: some of PLACES.
        causes: some of CAUSES: what a parked item waits for. An item that is not parked has no
            cause.
        storage: the item must still be written to this storage.
        error: a regular expression that matches in the item's latest error, ignoring case.
        older_s: the item's first claim, or the creation of its job, is at least so long ago. An
            item without both does not match, because its age is unknown.
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
        """Whether any field but `names` is set."""
        return self != WaitingFilter(names=self.names)

    def check(self) -> None:
        """Raise InvalidArgumentError for an unknown cause or place, or a bad regular expression."""
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
        """The fields that are set, for the audit entry."""
        return {name: value for name, value in asdict(self).items() if value not in ((), "", None)}


@dataclass(frozen=True, slots=True)
class _Place:
    """One place of one list. read(offset, most): returns its elements."""

    list: str
    name: str
    key: str
    read: Callable[[int, int], Sequence[bytes]]


class _Work:
    """One call of `retry` or `empty`: its filter and its progress."""

    def __init__(
        self, client: Client, wanted: WaitingFilter, causes: Collection[str], limit: int
    ) -> None:
        """causes: the filter's causes, or the default if the filter names none."""
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
        """Whether the limit is reached."""
        return bool(self.limit) and self.matching >= self.limit

    def look(
        self,
        place: _Place,
        most: int,
        change: Callable[[bytes], bool | None] | None,
        *,
        first: bool,
    ) -> Iterator[Progress]:
        """Read at most `most` elements of a place, and change those that the filter selects.

        Args:
            change: removes an element from the part that `place.read` reads. It returns whether the
                element was there, or None if it left the element there. None in a dry run.
            first: whether this is the first pass, which counts left-out items; a second pass would
                count them again.
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
        """None if the causes and the age of the filter select the item. Else the reason why not, to
        be counted in `left_out`; "" if it need not be counted.
        """
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
    """Make parked items due now that wait for another attempt or for a storage; at most `limit`, if
    it is not 0. Items that were submitted for a later time are selected only if `causes` has
    "later".

    Running hosts requeue the items within a second. Their counts of attempts stay. Yields its
    progress after every item, and at least once; `left_out` says how many items wait for something
    else. Closing the generator stops the work between two items.

    Raises:
        InvalidArgumentError: see WaitingFilter.check; or `causes` has a cause that cannot be
            hurried.
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
                    item = hash(text[: text.find(b" ")])  # the token, which an item keeps for life
                    if item in hurried:  # the item has failed again and was parked again
                        return None
                    hurried.add(item)
                    return bool(script.run(client, operator_calls.hurry(name, text, began_ms)))

                yield from work.look(place, most, None if dry_run else change, first=n == 0)
        yield work.progress  # with the items that were left out since the last one
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
    """Delete waiting items of lists; at most `limit`, if it is not 0.

    Their jobs end as cancelled, and their documents expire after `keep_s` (items.let_expire).
    Running items and dead letters stay. Yields its progress as `retry` does.

    Raises:
        InvalidArgumentError: see WaitingFilter.check; or the filter names no list.
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
    """The parked items of a list that are not due. A hurried item leaves this part of the key."""
    key = keys.parked(name)

    def read(offset: int, most: int) -> Sequence[bytes]:
        found: list[bytes] = client.zrangebyscore(
            key, f"({began_ms}", "+inf", start=offset, num=most
        )
        return found

    return _Place(name, "parked", key, read)


def _places(client: Client, name: str, wanted: WaitingFilter) -> Iterator[_Place]:
    """The places of a list that a filter selects, in the order in which items move through them, so
    that an item that moves meanwhile is found later.
    """
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
    """How many elements a place has; 0 if its key has the wrong type."""
    kind: bytes = client.type(key)
    if kind.decode() != wrong_type.kind_of(key):
        return 0
    return int(client.zcard(key) if kind == b"zset" else client.llen(key))


def _since_ms(client: Client, text: bytes) -> float | None:
    """When an item was claimed first, or else its job was made; None if unknown."""
    try:
        parsed: Claimed | None = record.parse(text)
    except ValueError:  # a bare payload
        parsed = None
    if parsed is not None and parsed.epoch:
        return parsed.first_seen_ms
    job = lookup.job_of(text)
    if not job or client.type(keys.job(job)) != b"hash":
        return None
    made: bytes | None = client.hget(keys.job(job), "created_ms")
    return float(made) if made and made.isdigit() else None
