"""Dead letters: filter, list, count by kind. dead_letter_moves.py requeues and purges them."""

from __future__ import annotations

import heapq
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from conserver.config.ages import age_s
from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError, with_type
from conserver.operations import lists
from conserver.operations.connection import Client
from conserver.operations.error_kinds import kind_of
from conserver.operations.lists import UnknownName
from conserver.queue import dead_letters, keys
from conserver.queue.dead_letters import DeadLetter
from conserver.queue.names import name_of
from conserver.telemetry.redact import redact_text, redact_texts

__all__ = [
    "REASONS", "DeadLetter", "Filter", "Kind", "Listing", "count", "described", "details",
    "died_at", "error_of", "listing", "names_of", "newest", "parse_age", "scan", "select",
    "summary", "unknown_names", "uuids", "where_of",
]  # fmt: skip

REASONS = ("failed", "rejected", "unavailable", "poison", "time_limit", "oversized")

_PLACES_READ = 10_000  # letters that `unknown_names` reads at most, to know links and storages


def parse_age(text: str) -> float:
    """Seconds in `90s`, `15m`, `2h`, `7d` or `1w`.

    Raises:
        InvalidArgumentError: `text` has another form.
    """
    try:
        return age_s(text)
    except ValueError as error:
        raise InvalidArgumentError("age", str(error)) from None


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects dead letters. A field that is not set excludes no letter.

    Attributes:
        names: lists; empty means all.
        uuids: names of items, mostly uuids (queue/names.py); empty means all.
        error: a regular expression that matches anywhere in the error, ignoring case.
        where: the link or storage that failed.
        reason: one of REASONS.
        older_s, newer_s: limits of the age; a letter without a time matches neither.
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
        """Whether any field is set."""
        return self != Filter()

    def check(self) -> None:
        """Raise InvalidArgumentError if `error` is no regular expression or `reason` is unknown."""
        try:
            re.compile(self.error)
        except re.error as error:
            raise InvalidArgumentError("error", f"{{}} is no regular expression: {error}") from None
        if self.reason and self.reason not in REASONS:
            hint = suggest(self.reason, REASONS)
            raise InvalidArgumentError("reason", f"there is no {{}} `{self.reason}` ({hint})")

    def as_target(self) -> dict[str, Any]:
        """The fields that are set, for the audit entry."""
        return {name: value for name, value in asdict(self).items() if value not in ((), "", None)}

    def matches(self, letter: DeadLetter, now_ms: float) -> bool:
        """Whether this filter selects the letter. A letter without a reason matches only a filter
        on lists and uuids.
        """
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
        """Whether `error` matches the recorded error, or the error as it is shown."""
        texts = (str(why.get("error", "")), error_of(why))
        return any(re.search(self.error, text, re.IGNORECASE) for text in texts)


@dataclass(frozen=True, slots=True)
class Listing:
    """Some letters. more: whether further letters match."""

    letters: list[DeadLetter]
    more: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of dead letter: how many letters of a list have this reason, link or storage (`where`)
    and error (without uuids: error_kinds.py).
    """

    count: int
    list: str
    reason: str
    where: str
    error: str


def where_of(why: Mapping[str, Any]) -> str:
    """The link or storage that failed; "" if neither did."""
    return str(why.get("storage") or why.get("link") or "")


def error_of(why: Mapping[str, Any]) -> str:
    """The first line of the error, without secrets. If the line is only one word, such as `4`, the
    error's type comes before it.
    """
    lines = redact_text(str(why.get("error", ""))).strip().splitlines()
    return with_type(str(why.get("type", "")), lines[0] if lines else "")


def died_at(why: Mapping[str, Any]) -> float | None:
    """When the item became a dead letter, in seconds since 1970; None if unknown."""
    time_ms = why.get("time_ms")
    return time_ms / 1000 if isinstance(time_ms, int | float) else None


def described(letter: DeadLetter) -> str:
    """The letter's reason, its link or storage, and its error, in one line."""
    why = letter.why
    parts = (str(why.get("reason", "")), where_of(why), error_of(why))
    return ": ".join(part for part in parts if part)


def summary(letter: DeadLetter) -> dict[str, Any]:
    """The list and uuid of a letter, its time, and its reason with all fields but the traceback."""
    why = {name: value for name, value in _why(letter).items() if name != "traceback"}
    return {"list": letter.list, **why, "uuid": letter.name}


def details(letter: DeadLetter) -> dict[str, Any]:
    """All fields of a letter, with the traceback and the item's progress; without secrets."""
    why: Any = redact_texts(_why(letter))
    return {
        **why,
        "list": letter.list,
        "uuid": letter.name,
        "links_done": letter.progress.links,
        "storages_owed": letter.progress.owed,
        "payload_bytes": len(letter.payload),
    }


def _why(letter: DeadLetter) -> dict[str, Any]:
    """The reason of a letter as it is told: `died_at` replaces `time_ms`."""
    why = {name: value for name, value in letter.why.items() if name != "time_ms"}
    return {**why, "died_at": died_at(letter.why)}


def select(client: Client, wanted: Filter) -> Iterator[DeadLetter]:
    """The letters that a filter selects, list by list, oldest first.

    Raises:
        InvalidArgumentError: see Filter.check.
    """
    return (letter for letter in scan(client, wanted) if letter is not None)


def newest(client: Client, wanted: Filter) -> Iterator[DeadLetter]:
    """The letters that a filter selects, newest first over all lists. Letters without a time come
    last.
    """
    now_ms = time.time() * 1000
    wanted.check()
    looks = [dead_letters.scan(client, name, newest=True) for name in names_of(client, wanted)]
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
    """At most `limit` letters (0: all) that a filter selects, after the first `offset` ones.

    look: `select` or `newest`, which decides the order.
    """
    found = look(client, wanted)
    letters = list(islice(found, offset, offset + limit if limit else None))
    return Listing(letters, bool(limit) and next(found, None) is not None)


def uuids(client: Client, name: str, *, limit: int, offset: int = 0) -> list[str]:
    """The uuids of a list's dead letters, oldest first. It does not read their reasons."""
    payloads: list[bytes] = client.lrange(keys.dead_letters(name), offset, offset + limit - 1)
    return [name_of(payload) for payload in payloads]


def count(client: Client, wanted: Filter, most: int | None = None) -> list[Kind]:
    """Count the letters that a filter selects, by kind; the most frequent kind first.

    Args:
        most: count at most so many matching letters; None: all.
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


def unknown_names(
    client: Client, wanted: Filter, configured: Iterable[str] = ()
) -> list[UnknownName]:
    """The unknown names in a filter: lists that are not configured and were never served, and a
    link or storage that no letter names.
    """
    found = lists.unknown(client, wanted.names, configured)
    found.sort(key=lambda unknown: wanted.names.index(unknown.name))
    if wanted.where:
        some = islice(select(client, Filter(names=wanted.names)), _PLACES_READ)
        places = {where_of(letter.why) for letter in some} - {""}
        if wanted.where not in places:
            found.append(UnknownName(wanted.where, suggest(wanted.where, places), "where"))
    return found


def scan(client: Client, wanted: Filter, until_ms: float = math.inf) -> Iterator[DeadLetter | None]:
    """Read every letter of the lists, oldest first. Yields the letter if the filter selects it and
    it is not newer than `until_ms`; else yields None.
    """
    now_ms = time.time() * 1000
    wanted.check()
    for name in names_of(client, wanted):
        for letter in dead_letters.scan(client, name):
            meant = letter.why.get("time_ms", 0) <= until_ms and wanted.matches(letter, now_ms)
            yield letter if meant else None


def names_of(client: Client, wanted: Filter) -> Sequence[str]:
    """The lists whose letters a filter may select."""
    return wanted.names or dead_letters.lists(client)
