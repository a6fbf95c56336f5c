"""Dead letters: which of them a filter means, how their errors read, and moving many of them."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from conserver.errors import InvalidArgumentError
from conserver.operations import audit
from conserver.operations.dead_letter_moves import Progress, purge, requeue
from conserver.operations.dead_letters import (
    DeadLetter,
    Filter,
    count,
    details,
    error_of,
    listing,
    newest,
    parse_age,
    select,
    summary,
    unknown_names,
)
from conserver.operations.error_kinds import kind_of
from conserver.queue import keys
from tests.operators import Consumer


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2 h", 7200), ("7d", 604_800), ("1.5min", 90)]
)
def test_ages(text: str, seconds: float) -> None:
    """Ages are written as people say them."""
    assert parse_age(text) == seconds


def test_a_wrong_age_is_wrong_usage() -> None:
    """It says how ages are written."""
    with pytest.raises(InvalidArgumentError, match="such as 2h") as caught:
        parse_age("soon")
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), True),
        (Filter(uuids=("u1",)), True),
        (Filter(uuids=("u2",)), False),
        (Filter(error="TIMED? out"), True),
        (Filter(error="refused"), False),
        (Filter(where="tag"), True),
        (Filter(where="pg"), False),
        (Filter(reason="failed"), True),
        (Filter(reason="poison"), False),
        (Filter(older_s=60), True),
        (Filter(older_s=101), False),
        (Filter(newer_s=101), True),
        (Filter(newer_s=60), False),
        (Filter(older_s=60, newer_s=200, where="tag", error="timed"), True),
    ],
)
def test_filters(wanted: Filter, expected: bool) -> None:
    """Filters look at uuid, error, place, reason and age; all that are set must fit."""
    why = {
        "uuid": "u1",
        "error": "it timed out",
        "link": "tag",
        "reason": "failed",
        "time_ms": 1_000_000,
    }
    assert wanted.matches(DeadLetter("l", b"u1", b"m", why), 1_100_000) is expected


@pytest.mark.parametrize(
    ("kind", "error", "expected"),
    [
        ("SystemExit", "4", "SystemExit: 4"),
        ("KeyError", "'x'", "KeyError: 'x'"),
        ("RuntimeError", "RuntimeError", "RuntimeError"),
        ("RuntimeError", "it broke\nhere", "it broke"),
        ("Rejected", "unusable", "unusable"),
        ("", "4", "4"),
        ("", "", ""),
    ],
)
def test_an_error_says_what_it_is(kind: str, error: str, expected: str) -> None:
    """A word alone says little; and what is shown can be looked for."""
    why = {"type": kind, "error": error}
    assert error_of(why) == expected
    letter = DeadLetter("l", b"u1", b"m", why)
    assert Filter(error=f"^{error}$").matches(letter, 0)
    assert Filter(error=f"^{expected}$").matches(letter, 0)


def test_a_letter_without_reason_fits_only_filters_on_its_uuid() -> None:
    """A payload that another tool put there has no age and no error."""
    letter = DeadLetter("l", b"u1")
    assert Filter(uuids=("u1",)).matches(letter, 0)
    assert not Filter(older_s=0).matches(letter, 0)
    assert not Filter(error=".").matches(letter, 0)


def dead(server: Any, *uuids: str) -> None:
    """Makes dead letters, in this order."""
    consumer = Consumer(server)
    for uuid in uuids:
        server.rpush("inbox", uuid)
        consumer.dead_letter(reason="failed", error="e")


def test_a_requeue_can_be_stopped(server: Any) -> None:
    """What has been moved stays moved and is in the audit; the rest is dead."""
    dead(server, "u-1", "u-2", "u-3")
    moves = requeue(server, Filter(), actor="me")
    for progress in moves:
        if progress.done == 2:
            break
    assert progress == Progress(done=2, matching=2, total=3)
    moves.close()
    assert server.llen(keys.returned("inbox")) == 2
    assert server.llen(keys.dead_letters("inbox")) == 1
    assert [entry.count for entry in audit.recent(server)] == [2]


@pytest.mark.parametrize("move", [requeue, purge])
@pytest.mark.parametrize("limit", [0, 2])
def test_a_dry_run_counts_what_would_be_moved(server: Any, move: Any, limit: int) -> None:
    """And moves nothing."""
    dead(server, "u-1", "u-2", "u-3")
    server.rpush(keys.dead_letters("inbox"), "bare")
    first, *_, last = move(server, Filter(reason="failed"), limit=limit, dry_run=True, actor="me")
    assert first == Progress(0, 0, 4)
    assert last == Progress(0, limit or 3, 4)
    assert server.llen(keys.dead_letters("inbox")) == 4


def test_one_that_fails_again_meanwhile_is_left_alone(server: Any) -> None:
    """Else a requeue of what fails at once would never end."""
    dead(server, "u-1", "u-2")
    consumer = Consumer(server)
    moved = 0
    for progress in requeue(server, Filter(), actor="me"):
        if progress.done > moved:
            moved = progress.done
            consumer.dead_letter(reason="failed", error="again", time_ms=later_ms())
    assert moved == 2
    assert {letter.why["error"] for letter in select(server, Filter())} == {"again"}


def later_ms() -> int:
    """A time after everything in this test."""
    return int((time.time() + 3600) * 1000)


def test_a_listing_has_pages(server: Any) -> None:
    """And says whether another one follows."""
    dead(server, "u-1", "u-2", "u-3")
    first = listing(server, Filter(), limit=2)
    assert ([letter.name for letter in first.letters], first.more) == (["u-1", "u-2"], True)
    second = listing(server, Filter(), limit=2, offset=2)
    assert ([letter.name for letter in second.letters], second.more) == (["u-3"], False)
    assert len(listing(server, Filter()).letters) == 3


def test_the_newest_of_all_lists_come_first(server: Any) -> None:
    """Whoever looks in the night wants to see what fails now."""
    for time_ms, name in enumerate(("inbox", "other", "inbox", "other"), 1):
        server.rpush(name, f"u-{time_ms}")
        letter = Consumer(server, name=name)
        letter.dead_letter(reason="failed", error="e", time_ms=time_ms)
    found = listing(server, Filter(), limit=3, look=newest)
    assert [letter.name for letter in found.letters] == ["u-4", "u-3", "u-2"]
    assert found.more
    only = listing(server, Filter(names=("inbox",)), look=newest)
    assert [letter.name for letter in only.letters] == ["u-3", "u-1"]
    with pytest.raises(InvalidArgumentError):
        listing(server, Filter(reason="none"), look=newest)


@pytest.mark.parametrize(
    ("wanted", "argument", "text"),
    [
        (Filter(error="("), "error", "--error is no regular expression: "),
        (Filter(reason="poisson"), "reason", "there is no --reason `poisson` (did you mean"),
    ],
)
def test_a_filter_that_cannot_be_used(
    server: Any, wanted: Filter, argument: str, text: str
) -> None:
    """The argument is named as each face names it, before anything is moved."""
    for operation in (select, listing, count):
        with pytest.raises(InvalidArgumentError) as caught:
            list(operation(server, wanted))  # type: ignore[arg-type]
        assert (caught.value.argument, caught.value.kind) == (argument, "invalid")
        assert caught.value.named(f"--{argument}").startswith(text)
    with pytest.raises(InvalidArgumentError):
        list(purge(server, wanted, actor="me"))


def test_names_that_nothing_has(server: Any) -> None:
    """With the likeliest that is meant."""
    dead(server, "u-1")
    wanted = Filter(names=("inbux",), where="mark")
    unknown, where = unknown_names(server, wanted)
    assert (unknown.kind, unknown.name, unknown.hint) == ("list", "inbux", "did you mean `inbox`?")
    assert (where.kind, where.name, where.hint) == ("where", "mark", "")
    assert unknown_names(server, Filter(names=("inbux",)), ["inbux"]) == []


def test_what_is_told_of_a_letter_has_no_secrets() -> None:
    why = {
        "error": "no redis://u:pa55@h\nhere",
        "traceback": "redis://u:pa55@h",
        "attempts": 2,
        "time_ms": 1500,
    }
    letter = DeadLetter("l", b"u1", b"m", why)
    assert error_of(why) == "no redis://u:***@h"
    told = details(letter)
    assert (told["traceback"], told["attempts"]) == ("redis://u:***@h", 2)
    assert "pa55" not in str(told)
    for shown in (told, summary(letter)):
        assert (shown["died_at"], "time_ms" in shown) == (1.5, False)
    assert summary(DeadLetter("l", b"u1", b"m", {}))["died_at"] is None


def test_a_name_that_is_a_uuid_costs_no_pattern_of_its_own() -> None:
    """A pattern for each letter would make up most of the time of a page with many letters."""
    names = [f"0199e0a4-7c1e-8b3a-9f11-{number:012d}" for number in range(100)]
    seen = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: seen.append(event) if event == "call" else None)
    try:
        kinds = {kind_of(f"vCon {name} has no audio", name) for name in names}
    finally:
        sys.setprofile(before)
    assert kinds == {"vCon <uuid> has no audio"}
    assert len(seen) < 3 * len(names)
    assert kind_of("a.b, axb and a.b-c: a.b", "a.b") == "<name>, axb and a.b-c: <name>"
