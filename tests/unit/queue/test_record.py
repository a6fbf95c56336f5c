"""record.py: records and progress as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conserver.queue.record import Progress, Source, parse, parse_claimed
from tests.queues import record

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1)


@given(st.binary(), st.binary(), names, st.integers(0, 99), st.sampled_from(["-", "s", "sb"]))
def test_a_record_reads_as_it_was_written(
    payload: bytes, state: bytes, name: str, deaths: int, flags: str
) -> None:
    text = record("c1.7.2", payload, name, flags=flags, deaths=deaths, state=state)
    found = parse(text)
    assert (found.token, found.epoch, found.list) == ("c1.7.2", 1, name)
    assert (found.state, found.payload) == (state, payload)
    assert (found.deaths, found.suspect) == (deaths, flags != "-")
    assert found.first_seen_ms == 1_700_000_000_000


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"u1",
        b'{"uuid":"u1"}',
        b"\x01",
        b"\x01token 1\nu1",
        b"\x01t x 0 - 0 0 0 0 q\nu1",
        b"\x01t 1 0 - 0 0 0 0 q",
    ],
)
def test_what_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which part is wrong matters to nobody
        parse(text)


def test_an_entry_of_a_claim_carries_document_revision_and_etags() -> None:
    fields = [b"r", b"9", b"n", b"3", b"h", b"", b"c", b"calls", b"e:s3", b'"tag"', b"e:x:y", b"1"]
    found = parse_claimed([record("t", "u1"), b"text", b"{}", b"9", b"1", fields])
    assert (found.source, found.text) == (Source.STORED, b"{}")
    assert (found.revision, found.replaced) == (9, True)
    assert found.etags == {"s3": '"tag"', "x:y": "1"}


def test_an_entry_without_etags_has_none() -> None:
    fields = [b"r", b"9", b"n", b"3", b"h", b"", b"c", b""]
    assert parse_claimed([record("t", "u1"), b"stored", b"7", b"9", b"", fields]).etags == {}
    assert parse_claimed([record("t", "{}"), b"inline", b"", b"0", b"", []]).etags == {}


def test_a_fresh_item_has_no_state_at_all() -> None:
    assert Progress().dump() == b""
    assert Progress.load(b"") == Progress()


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.builds(
        Progress,
        links=st.lists(texts),
        owed=st.none() | st.lists(texts),
        attempts=st.just(0),
        runs=st.dictionaries(texts, st.integers(1, 99)),
        pushes=st.lists(st.tuples(texts, texts)),
        expire_s=st.none() | st.integers(0, 10**9),
        etags=st.dictionaries(texts, texts),
    )
)
def test_progress_reads_as_it_was_written(progress: Progress) -> None:
    assert Progress.load(progress.dump()) == progress


def test_progress_keeps_the_last_error_with_its_attempts() -> None:
    progress = Progress(attempts=2, error="broken\npipe")
    assert Progress.load(progress.dump()) == progress
    assert b"\n" not in progress.dump()


def test_nothing_owed_is_not_the_same_as_not_known_yet() -> None:
    # [] says that all storages have it; None that the links are not done.
    assert Progress.load(Progress(owed=[]).dump()).owed == []
    assert Progress.load(Progress(links=["a"]).dump()).owed is None


def test_state_from_a_later_version_is_read_for_what_is_known() -> None:
    assert Progress.load(b'{"links":["a"],"colour":"red"}') == Progress(links=["a"])


@pytest.mark.parametrize(
    "state",
    [
        b"{broken",
        b"[]",
        b"3",
        b'{"links":3}',
        b'{"owed":"s3"}',
        b'{"attempts":"1"}',
        b'{"runs":[]}',
        b'{"pushes":[1]}',
        b'{"pushes":[["out"]]}',
        b'{"expire_s":"soon"}',
        b'{"links":[1]}',
        b'{"runs":{"tag":"twice"}}',
        b'{"pushes":[["out",1]]}',
        b'{"etags":{"s3":1}}',
        b'{"slots":5}',
        b'{"slots":[5]}',
    ],
)
def test_progress_that_is_none_of_ours_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Progress.load(state)
