"""`conserver dlq`: dead letters found by what killed them, shown, sent to work again, forgotten.

A requeued letter resumes: links that are done are not done again, attempts start from nothing. One
letter is moved per call and only if it is still there, so these commands may be interrupted, and
run beside the daemon and each other.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from conserver.cli import census
from conserver.cli.base import Client, Output, age_text, load_settings, note, redis_client
from conserver.config.validation import suggest
from conserver.errors import EXIT_FAILURE, EXIT_USAGE, BootError, Rejected
from conserver.queue import dead_letters as deadletters
from conserver.queue.dead_letters import DeadLetter
from conserver.vcon.document import Vcon

# Letters are gathered before they are moved, because moving one shifts the pages that follow it.
_ROUND = 10_000
_NAME_CHARS = 40  # What is no uuid is the beginning of whatever was pushed.
_ASKED_FIRST = ("uuid", "list", "chain", "reason", "link", "storage", "error", "type")
_ASKED_LAST = ("token", "payload_bytes", "traceback")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_REASONS = ("failed", "rejected", "unavailable", "poison", "time_limit", "oversized")
_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>s|m|min|h|d|w)")
_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_age(text: str) -> float:
    """Seconds in `90s`, `15m`, `2h`, `7d` or `1w`.

    Raises:
        BootError: it is none of these.
    """
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise BootError(
            f"an age is a number and s, m, h, d or w, such as 2h: not `{text}`", EXIT_USAGE
        )
    return float(match["number"]) * _UNIT_S[match["unit"]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant. What is not set does not matter.

    Attributes:
        names: lists; none means all.
        uuids: uuids; none means all.
        error: a text or regular expression, found anywhere in the error, whatever its case.
        where: the link or storage that failed.
        reason: `failed`, `rejected`, `unavailable`, `poison` ...
        older_s, newer_s: the age.
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
        """Whether it leaves anything out."""
        return self != Filter()

    def matches(self, letter: DeadLetter, now_ms: float) -> bool:
        """Whether this letter is meant. One without a reason matches no filter on reasons."""
        why = letter.why
        if self.uuids and uuid_of(letter) not in self.uuids:
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
        """Whether the error is meant, as it stands in the record or as it is shown."""
        texts = (str(why.get("error", "")), error_of(why))
        return any(re.search(self.error, text, re.IGNORECASE) for text in texts)


def error_of(why: Mapping[str, Any]) -> str:
    """The first line of its error; with its type where a single word says little, as in `4`."""
    lines = str(why.get("error", "")).strip().splitlines()
    text, kind = lines[0] if lines else "", str(why.get("type", ""))
    wakeups = " " in text or kind in ("", "Rejected") or text.startswith(kind)
    return text if wakeups else f"{kind}: {text}"


def uuid_of(letter: DeadLetter) -> str:
    """Its uuid, be it pushed as a whole document or not; else the beginning of what was pushed."""
    if letter.payload[:1] == b"{" and not _UUID.fullmatch(letter.name):
        try:
            return Vcon.parse(letter.payload).uuid
        except Rejected:
            return letter.name
    return letter.name


def where_of(why: dict[str, Any]) -> str:
    """The link or storage that failed; empty where it was neither."""
    return str(why.get("storage") or why.get("link") or "")


def described(letter: DeadLetter) -> str:
    """What killed it, in one line."""
    why = letter.why
    parts = (str(why.get("reason", "")), where_of(why), error_of(why))
    return ": ".join(part for part in parts if part)


def list_letters(output: Output, wanted: Filter, *, limit: int, count: bool = False) -> int:
    """Lists letters, oldest first, or counts them by what killed them.

    Args:
        limit: at most so many; 0 is all.
    """
    with redis_client(load_settings()) as client:
        if count:
            return _count(output, client, wanted)
        found = select(client, wanted)
        letters = list(islice(found, limit)) if limit else list(found)
        more = limit and next(found, None) is not None
        none = "" if letters else _none(client, wanted)
    output.value([_summary(letter) for letter in letters])
    output.table(
        ("age", "list", "uuid", "reason", "where", "attempts", "error"),
        [
            (
                _age_of(letter),
                letter.list,
                _short(uuid_of(letter)),
                letter.why.get("reason", ""),
                where_of(letter.why),
                letter.why.get("attempts", ""),
                error_of(letter.why),
            )
            for letter in letters
        ],
        none=none,
    )
    if more:
        note(f"there are more than {limit}: --limit 0 shows all, --count counts them")
    return 0


def show_letter(output: Output, uuid: str, names: Sequence[str]) -> int:
    """Shows all that is known of the dead letters of one uuid, tracebacks included."""
    with redis_client(load_settings()) as client:
        letters = list(select(client, Filter(names=tuple(names), uuids=(uuid,))))
    output.value([_details(letter) for letter in letters])
    for n, letter in enumerate(letters):
        if n:
            output.line()
        for name, value in _for_people(_details(letter)).items():
            if value not in (None, "", [], {}):
                text = str(value)
                output.line(f"{name}: {text}" if "\n" not in text else f"{name}:\n{text.rstrip()}")
    if not letters:
        note(f"{uuid} is no dead letter")
    return 0 if letters else EXIT_FAILURE


def requeue_letters(output: Output, wanted: Filter, *, dry_run: bool, limit: int) -> int:
    """Sends letters to work again."""

    def requeue(client: Client, letter: DeadLetter) -> bool:
        return deadletters.requeue(client, letter) in ("returned", "queued")

    return _move(output, wanted, requeue, "requeued", dry_run=dry_run, limit=limit)


def purge_letters(output: Output, wanted: Filter, *, dry_run: bool, limit: int) -> int:
    """Forgets letters, and their payloads with them; documents in Redis expire by themselves."""
    return _move(output, wanted, deadletters.purge, "purged", dry_run=dry_run, limit=limit)


def _move(
    output: Output,
    wanted: Filter,
    move: Callable[[Client, DeadLetter], bool],
    done_word: str,
    *,
    dry_run: bool,
    limit: int,
) -> int:
    """Moves what matches, and only what was dead when the command began.

    A letter that fails again meanwhile is dead anew, with a later time: it is left alone, else a
    requeue could go on for ever.
    """
    moved = 0
    with redis_client(load_settings()) as client:
        seconds, micros = client.time()
        began_ms = seconds * 1000 + micros / 1000
        while True:
            room = min(_ROUND, limit - moved) if limit else _ROUND
            old = (
                letter
                for letter in select(client, wanted)
                if letter.why.get("time_ms", 0) <= began_ms
            )
            letters = list(islice(old, room))
            if dry_run:
                moved = len(letters) + (0 if limit else sum(1 for _ in old))
                break
            progress = sum(1 for letter in letters if move(client, letter))
            moved += progress
            if not progress or (limit and moved >= limit):
                break
        none = "" if moved else _none(client, wanted)
    output.value({done_word: 0 if dry_run else moved, "matching": moved, "dry_run": dry_run})
    output.line(f"{moved} would be {done_word}" if dry_run else f"{moved} {done_word}")
    if not moved:
        note(none)
    # Whoever names one means that one: a script must not take silence for success.
    return EXIT_FAILURE if wanted.uuids and not moved else 0


def select(client: Client, wanted: Filter) -> Iterator[DeadLetter]:
    """The letters that a filter means, list by list, oldest first.

    Raises:
        BootError: its `error` is no regular expression, or there is no such `reason`.
    """
    now_ms = time.time() * 1000
    try:
        re.compile(wanted.error)
    except re.error as error:
        raise BootError(f"--error is no regular expression: {error}", EXIT_USAGE) from None
    if wanted.reason and wanted.reason not in _REASONS:
        hint = suggest(wanted.reason, _REASONS)
        raise BootError(f"there is no --reason `{wanted.reason}` ({hint})", EXIT_USAGE)
    for name in wanted.names or deadletters.lists(client):
        for letter in deadletters.scan(client, name):
            if wanted.matches(letter, now_ms):
                yield letter


def _count(output: Output, client: Client, wanted: Filter) -> int:
    counts = Counter(
        (
            letter.list,
            str(letter.why.get("reason", "")),
            where_of(letter.why),
            _kind_of(letter),
        )
        for letter in select(client, wanted)
    )
    columns = ("count", "list", "reason", "where", "error")
    rows = [(n, *key) for key, n in counts.most_common()]
    output.value([dict(zip(columns, row, strict=True)) for row in rows])
    output.table(columns, rows, none="" if rows else _none(client, wanted))
    return 0


def _summary(letter: DeadLetter) -> dict[str, Any]:
    told = {name: value for name, value in letter.why.items() if name != "traceback"}
    return {"list": letter.list, **told, "uuid": uuid_of(letter)}


def _details(letter: DeadLetter) -> dict[str, Any]:
    return {
        **letter.why,
        "list": letter.list,
        "uuid": uuid_of(letter),
        "links_done": letter.progress.links,
        "storages_owed": letter.progress.owed,
        "payload_bytes": len(letter.payload),
    }


def _for_people(details: dict[str, Any]) -> dict[str, Any]:
    """The same in the order in which one asks, with a time that says something."""
    told = {name: details[name] for name in _ASKED_FIRST if name in details}
    told |= {name: value for name, value in details.items() if name not in _ASKED_LAST}
    told |= {name: details[name] for name in _ASKED_LAST if name in details}
    at_ms = told.pop("time_ms", None)
    if at_ms is not None:
        at = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        told = {"died": f"{at}, {age_text(max(time.time() - at_ms / 1000, 0.0))} ago", **told}
    return told


def _none(client: Client, wanted: Filter) -> str:
    """That nothing matches, and which names of the filter nothing has."""
    if wanted.uuids:
        matching = " that matches" if wanted != Filter(uuids=wanted.uuids) else ""
        text = f"no dead letter of {', '.join(wanted.uuids)}{matching}"
    else:
        text = "no dead letters" + (" that match" if wanted.restricts else "")
    return "; ".join([text, *_unknown(client, wanted)])


def _unknown(client: Client, wanted: Filter) -> Iterator[str]:
    """What is said of lists that nobody serves, and of a link or storage that killed nothing."""
    lists = census.known_lists(client)
    for name in wanted.names:
        if name not in lists:
            yield f"nobody has ever taken from {name}{_hint(name, lists)}"
    if wanted.where:
        everything = islice(select(client, Filter(names=wanted.names)), _ROUND)
        places = {where_of(letter.why) for letter in everything} - {""}
        if wanted.where not in places:
            yield f"none failed in {wanted.where}{_hint(wanted.where, places)}"


def _hint(name: str, known: Iterable[str]) -> str:
    hint = suggest(name, known)
    return f" ({hint})" if hint else ""


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"


def _age_of(letter: DeadLetter) -> str:
    at_ms = letter.why.get("time_ms")
    return "" if at_ms is None else age_text(max(time.time() - at_ms / 1000, 0.0))


def _kind_of(letter: DeadLetter) -> str:
    """The error without what differs from letter to letter, so that equal causes count as one."""
    error = error_of(letter.why)
    name = uuid_of(letter)
    if name:
        error = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "<uuid>", error)
    return _UUID.sub("<uuid>", error)
