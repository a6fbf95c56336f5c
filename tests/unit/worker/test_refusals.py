"""refusals.py: which claimed items must not run, and why."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from conserver.queue.record import Claimed
from conserver.worker.refusals import refusal

DIED = "its worker died 3 times with nothing else to blame"


def claimed(
    deaths: int = 0, note: str = "", refused: tuple[str, str] | None = None, state: bytes = b""
) -> Claimed:
    item = Claimed("token", 1, deaths, False, 0, "in", state, b"u1", refused=refused)
    item.note = note.encode()
    return item


@pytest.mark.parametrize(
    ("note", "error", "reason", "link"),
    [
        ("", DIED, "poison", ""),
        (
            '{"error":"was killed","link":"tag"}',
            f"{DIED}; the last time it was killed",
            "poison",
            "tag",
        ),
        (
            '{"error":"was slow","reason":"time_limit"}',
            f"{DIED}; the last time it was slow",
            "time_limit",
            "",
        ),
        # Nothing that an operator writes into a record ends a worker.
        ("{}", DIED, "poison", ""),
        ("[1]", DIED, "poison", ""),
        ("7", DIED, "poison", ""),
        ("{broken", DIED, "poison", ""),
        ("\udcff", DIED, "poison", ""),
        ('{"error":7,"link":null}', f"{DIED}; the last time it 7", "poison", "None"),
    ],
)
def test_an_item_that_died_too_often_is_poison(
    note: str, error: str, reason: str, link: str
) -> None:
    encoded = quote(note, safe="", errors="surrogateescape")
    found = refusal(claimed(3, encoded), 3, 1000)
    assert found is not None
    assert (found.message, found.reason, found.link) == (error, reason, link)


def test_one_death_less_is_not_too_many() -> None:
    assert refusal(claimed(2), 3, 1000) is None
    found = refusal(claimed(1), 1, 1000)
    assert found is not None
    assert "died 1 time with" in found.message


def test_a_payload_that_was_cut_is_too_large() -> None:
    found = refusal(claimed(refused=("cut", "2000")), 3, 1000)
    assert found is not None
    assert found.reason == "oversized"
    assert found.message == (
        "the pushed document has 2000 bytes, more than 1000: store it at vcon:<uuid> and push its"
        " uuid instead"
    )


def test_an_item_whose_url_has_expired_is_rejected() -> None:
    found = refusal(claimed(refused=("expired", "90")), 3, 1000)
    assert found is not None
    assert found.reason == "rejected"
    assert found.message == (
        "the presigned URL of its callback expired 90 s before it could begin: submit it again with"
        " a new one"
    )


def test_progress_that_cannot_be_read_is_shown_with_its_fault() -> None:
    found = refusal(claimed(refused=("unreadable", "it is no object"), state=b"[\xff]"), 3, 1000)
    assert found is not None
    assert found.reason == "rejected"
    assert found.message == (
        "the progress in its record cannot be read: it is no object: [\ufffd] (a requeue runs all"
        " its links again)"
    )


def test_of_two_causes_the_deaths_are_told() -> None:
    found = refusal(claimed(3, refused=("cut", "2000")), 3, 1000)
    assert found is not None
    assert found.reason == "poison"
