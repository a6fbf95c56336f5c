"""Dead letters: filtered, listed, counted by kind, sent to work again, purged.

A requeued letter resumes: links that are done are not run again, and its attempts start at 0. Each
letter is moved by a call of its own and only if it is still there, so requeue and purge may be
interrupted, and may run beside the daemon and each other.
"""

from __future__ import annotations

import heapq
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from conserver.config.ages import age_s
from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError, with_type
from conserver.operations import audit, lists
from conserver.operations.connection import Client
from conserver.operations.error_kinds import kind_of
from conserver.operations.lists import UnknownName
from conserver.queue import dead_letters, keys
from conserver.queue.dead_letters import DeadLetter
from conserver.queue.names import name_of
from conserver.telemetry.redact import redact_text, redact_texts

__all__ = [
    "REASONS", "DeadLetter", "Filter", "Kind", "Listing", "Progress", "count", "described",
    "details", "error_of", "listing", "parse_age", "purge", "requeue", "select", "summary",
    "unknown_names", "uuids", "where_of",
]  # fmt: skip

REASONS = ("failed", "rejected", "unavailable", "poison", "time_limit", "oversized")

# Letters are gathered before they are moved, because moving one shifts the pages that follow it.
_ROUND = 10_000
_PROGRESS_EVERY = 1000  # letters looked at, between two reports while nothing is moved


def parse_age(text: str) -> float:
    """Seconds in `90s`, `15m`, `2h`, `7d` or `1w`.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    try:
        return age_s(text)
    except ValueError as error:
        raise InvalidArgumentError("age", str(error)) from None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant. A field that is not set leaves none out.

    Attributes:
        names: lists; none means all.
        uuids: names of items, mostly uuids (queue/names.py); none means all.
        error: a regular expression that is found anywhere in the error, in any case.
        where: the link or storage that failed.
        reason: one of REASONS.
        older_s, newer_s: the age; a letter without a time matches neither.
    """

    names: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    error: str = ""
    where: str = ""
    reason: str = ""
    older_s: float | None = None
    newer_s: float | None = None

    @property
    def restricts(self) -> bool:
        """Whether it leaves any letter out."""
        return self != Filter()

    def check(self) -> None:
        """Raises InvalidArgumentError where `error` is no regular expression, or `reason` none."""
        try:
            re.compile(self.error)
        except re.error as error:
            raise InvalidArgumentError("error", f"{{}} is no regular expression: {error}") from None
        if self.reason and self.reason not in REASONS:
            hint = suggest(self.reason, REASONS)
            raise InvalidArgumentError("reason", f"there is no {{}} `{self.reason}` ({hint})")

    def as_target(self) -> dict[str, Any]:
        """The fields that are set, as the audit shows them."""
        return {name: value for name, value in asdict(self).items() if value not in ((), "", None)}

    def matches(self, letter: DeadLetter, now_ms: float) -> bool:
        """Whether this letter is meant. One without a reason matches no filter on reasons."""
        why = letter.why
        if self.uuids and letter.name not in self.uuids:
            return False
        if self.error and not self._has_error(why):
            return False
        if self.where and self.where != where_of(why):
            return False
        if self.reason and self.reason != why.get("reason"):
            return False
        if self.older_s is None and self.newer_s is None:
            return True
        if "time_ms" not in why:
            return False
        age_s = (now_ms - why["time_ms"]) / 1000
        return (self.older_s is None or age_s >= self.older_s) and (
            self.newer_s is None or age_s < self.newer_s
        )

    def _has_error(self, why: Mapping[str, Any]) -> bool:
        """Whether `error` is found in the error as it is recorded, or as it is shown."""
        texts = (str(why.get("error", "")), error_of(why))
        return any(re.search(self.error, text, re.IGNORECASE) for text in texts)


@dataclass(frozen=True, slots=True)
class Listing:
    """Some letters, and whether more match."""

    letters: list[DeadLetter]
    more: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """How many letters of a list have the same cause; see error_kinds for `error`."""

    count: int
    list: str
    reason: str
    where: str
    error: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a requeue or purge is.

    Attributes:
        done: letters that have been moved; 0 in a dry run.
        matching: the same; in a dry run, letters that match so far.
        total: dead letters of these lists when it began. No more than these can match.
        left_out: why items of a list that wait are not touched although the filter names no
            cause: how many of each (waiting.py). Dead letters have none.
    """

    done: int
    matching: int
    total: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def where_of(why: Mapping[str, Any]) -> str:
    """The link or storage that failed; "" where it was neither."""
    return str(why.get("storage") or why.get("link") or "")


def error_of(why: Mapping[str, Any]) -> str:
    """The first line of the error, with its type before a text of one word, such as `4`; without
    secrets.
    """
    lines = redact_text(str(why.get("error", ""))).strip().splitlines()
    return with_type(str(why.get("type", "")), lines[0] if lines else "")


def described(letter: DeadLetter) -> str:
    """Its reason, where it failed and its error, in one line."""
    why = letter.why
    parts = (str(why.get("reason", "")), where_of(why), error_of(why))
    return ": ".join(part for part in parts if part)


def summary(letter: DeadLetter) -> dict[str, Any]:
    """All that is known of why it is dead but for the traceback, with its list and uuid."""
    why = {name: value for name, value in letter.why.items() if name != "traceback"}
    return {"list": letter.list, **why, "uuid": letter.name}


def details(letter: DeadLetter) -> dict[str, Any]:
    """All that is known of a letter, the traceback and its progress included; without secrets."""
    why: Any = redact_texts(letter.why)
    return {
        **why,
        "list": letter.list,
        "uuid": letter.name,
        "links_done": letter.progress.links,
        "storages_owed": letter.progress.owed,
        "payload_bytes": len(letter.payload),
    }


def select(client: Client, wanted: Filter) -> Iterator[DeadLetter]:
    """The letters that a filter means, list by list, oldest first.

    Raises:
        InvalidArgumentError: see Filter.check.
    """
    return (letter for letter in _looked_at(client, wanted) if letter is not None)


def newest(client: Client, wanted: Filter) -> Iterator[DeadLetter]:
    """The same, newest first over all lists; those whose time is not known come last."""
    now_ms = time.time() * 1000
    wanted.check()
    looks = [dead_letters.scan(client, name, newest=True) for name in _names(client, wanted)]
    merged = heapq.merge(*looks, key=lambda letter: -letter.why.get("time_ms", 0))
    return (letter for letter in merged if wanted.matches(letter, now_ms))


def listing(
    client: Client,
    wanted: Filter,
    *,
    limit: int = 0,
    offset: int = 0,
    look: Callable[[Client, Filter], Iterator[DeadLetter]] = select,
) -> Listing:
    """At most `limit` letters (0: all) that a filter means, without the first `offset` ones.

    look: select or newest.
    """
    found = look(client, wanted)
    letters = list(islice(found, offset, offset + limit if limit else None))
    return Listing(letters, bool(limit) and next(found, None) is not None)


def uuids(client: Client, name: str, *, limit: int, offset: int = 0) -> list[str]:
    """The uuids of a list's dead letters, oldest first, without a look at their reasons."""
    payloads: list[bytes] = client.lrange(keys.dead_letters(name), offset, offset + limit - 1)
    return [name_of(payload) for payload in payloads]


def count(client: Client, wanted: Filter, most: int | None = None) -> list[Kind]:
    """How many letters there are of each kind, the most frequent first.

    Args:
        most: look at no more than so many letters that match; None: at all.
    """
    kinds = Counter(
        (
            letter.list,
            str(letter.why.get("reason", "")),
            where_of(letter.why),
            kind_of(error_of(letter.why), letter.name),
        )
        for letter in islice(select(client, wanted), most)
    )
    return [Kind(n, *kind) for kind, n in kinds.most_common()]


def requeue(
    client: Client, wanted: Filter, *, limit: int = 0, dry_run: bool = False, actor: str
) -> Generator[Progress, None, None]:
    """Sends the letters that a filter means to work again; at most `limit`, if it is not 0.

    Only letters that are dead when it begins: one that fails again meanwhile is left alone, else
    this might never end. Yields its progress with every letter, and at least once. Closing the
    generator stops it between two letters.

    Raises:
        InvalidArgumentError: see Filter.check.
    """

    def move(letter: DeadLetter) -> bool:
        return dead_letters.requeue(client, letter) in ("returned", "queued")

    return _begun(client, wanted, move, "requeue", limit=limit, dry_run=dry_run, actor=actor)


def purge(
    client: Client, wanted: Filter, *, limit: int = 0, dry_run: bool = False, actor: str
) -> Generator[Progress, None, None]:
    """Deletes the letters that a filter means, with their payloads; as `requeue` does it.

    Documents in Redis (vcon:<uuid>) stay and expire by themselves.
    """

    def move(letter: DeadLetter) -> bool:
        return dead_letters.purge(client, letter)

    return _begun(client, wanted, move, "purge", limit=limit, dry_run=dry_run, actor=actor)


def unknown_names(client: Client, wanted: Filter) -> list[UnknownName]:
    """The names of a filter that nothing has: lists never served, a link in which none failed."""
    found = lists.unknown(client, wanted.names)
    # In the order of the filter.
    found.sort(key=lambda unknown: wanted.names.index(unknown.name))
    if wanted.where:
        some = islice(select(client, Filter(names=wanted.names)), _ROUND)
        places = {where_of(letter.why) for letter in some} - {""}
        if wanted.where not in places:
            found.append(UnknownName(wanted.where, suggest(wanted.where, places), "where"))
    return found


def _begun(
    client: Client,
    wanted: Filter,
    move: Callable[[DeadLetter], bool],
    action: str,
    *,
    limit: int,
    dry_run: bool,
    actor: str,
) -> Generator[Progress, None, None]:
    """The progress of moving letters; at its end, however it ends, there is an audit entry."""
    if dry_run:
        yield from _counted(client, wanted, limit)
        return
    done = 0
    try:
        for step in _moved(client, wanted, move, limit):
            done = step.done
            yield step
    finally:
        if done:
            audit.record(client, actor, action, wanted.as_target(), done)


def _moved(
    client: Client, wanted: Filter, move: Callable[[DeadLetter], bool], limit: int
) -> Iterator[Progress]:
    """Moves the letters that are meant, in rounds, until a round moves none."""
    began_ms, total = _beginning(client, wanted)
    done = 0
    yield Progress(done, done, total)
    while True:
        letters: list[DeadLetter] = []
        room = min(_ROUND, limit - done) if limit else _ROUND
        for looked_at, letter in enumerate(_looked_at(client, wanted, began_ms), 1):
            if letter is not None:
                letters.append(letter)
                if len(letters) == room:
                    break
            if looked_at % _PROGRESS_EVERY == 0:
                yield Progress(done, done, total)
        before = done
        for letter in letters:
            done += move(letter)
            yield Progress(done, done, total)
        if done == before or (limit and done >= limit):
            return


def _counted(client: Client, wanted: Filter, limit: int) -> Iterator[Progress]:
    """Counts the letters that would be moved."""
    began_ms, total = _beginning(client, wanted)
    matching = 0
    yield Progress(0, matching, total)
    for looked_at, letter in enumerate(_looked_at(client, wanted, began_ms), 1):
        if letter is not None:
            matching += 1
            yield Progress(0, matching, total)
            if matching == limit:
                return
        elif looked_at % _PROGRESS_EVERY == 0:
            yield Progress(0, matching, total)


def _beginning(client: Client, wanted: Filter) -> tuple[float, int]:
    """The time by Redis's clock, in ms, and how many dead letters the lists have."""
    wanted.check()
    seconds, micros = client.time()
    total = sum(dead_letters.depth(client, name) for name in _names(client, wanted))
    return seconds * 1000 + micros / 1000, total


def _looked_at(
    client: Client, wanted: Filter, until_ms: float = math.inf
) -> Iterator[DeadLetter | None]:
    """Every letter of the lists, oldest first: itself where it is meant, else None.

    One that died after `until_ms` is not meant.
    """
    now_ms = time.time() * 1000
    wanted.check()
    for name in _names(client, wanted):
        for letter in dead_letters.scan(client, name):
            meant = letter.why.get("time_ms", 0) <= until_ms and wanted.matches(letter, now_ms)
            yield letter if meant else None


def _names(client: Client, wanted: Filter) -> Sequence[str]:
    return wanted.names or dead_letters.lists(client)
