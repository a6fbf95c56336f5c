"""Dead letters: which of them a filter means, and how their errors read."""

from __future__ import annotations

import pytest

from conserver.errors import InvalidArgumentError
from conserver.operations.dead_letters import Filter, error_of, parse_age
from conserver.queue.dead_letters import DeadLetter


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
