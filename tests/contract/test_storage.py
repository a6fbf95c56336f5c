"""What every storage promises, tried on each kind with its real server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import orjson
import pytest

from storage.contract import Document, Rejected, Storage, Stored, Unavailable
from tests import vcons
from tests.contract.places import KINDS, Place, document, not_json, place


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest) -> Place:
    """A new place of each kind in turn."""
    return place(request.param, request)


def save(storage: Storage, *documents: Document) -> list[object]:
    """Saves them as the writer does: sorted by uuid, and gives the outcomes in the given order."""
    order = sorted(range(len(documents)), key=lambda number: documents[number].uuid)
    outcomes = storage.save_many([documents[number] for number in order])
    assert len(outcomes) == len(documents)
    return [outcomes[order.index(number)] for number in range(len(documents))]


def kept(storage: Storage, uuid: str) -> object:
    """What the storage gives back, parsed."""
    body = storage.get(uuid)
    return None if body is None else orjson.loads(body)


def is_stored(outcome: object, superseded: bool = False) -> bool:
    return isinstance(outcome, Stored) and outcome.superseded == superseded


def test_it_fulfils_the_protocol(here: Place) -> None:
    assert isinstance(here.make(), Storage)
    assert here.make().name == here.kind


def test_what_is_saved_is_given_back(here: Place) -> None:
    with here.opened() as storage:
        first, second = document(subject="one"), document(subject="two")
        assert all(map(is_stored, save(storage, first, second)))
        assert kept(storage, first.uuid) == first.data
        assert kept(storage, second.uuid) == second.data


def test_what_was_never_saved_is_not_there(here: Place) -> None:
    with here.opened() as storage:
        assert storage.get(document().uuid) is None
        assert storage.delete(document().uuid) is False


@pytest.mark.parametrize("shape", vcons.SHAPES)
def test_every_shape_is_kept_as_it_is(here: Place, shape: str) -> None:
    data = vcons.make(shape, seed=3)
    uuid = data.get("uuid") or document().uuid
    given = Document(uuid, json.dumps(data, indent=1, ensure_ascii=False).encode(), 7)
    with here.opened() as storage:
        (outcome,) = save(storage, given)
        if shape in here.rejects:
            assert isinstance(outcome, Rejected)
            assert outcome.reason
            assert storage.get(uuid) is None
            return
        assert is_stored(outcome)
        if shape in here.keeps_part_of:
            assert storage.get(uuid) is None
        elif here.keeps_bytes:
            assert storage.get(uuid) == given.body
        else:
            assert kept(storage, uuid) == data


def test_a_newer_revision_replaces(here: Place) -> None:
    old = document(5, subject="old")
    new = document(6, old.uuid, subject="new")
    with here.opened() as storage:
        save(storage, old)
        assert all(map(is_stored, save(storage, new)))
        assert kept(storage, old.uuid) == new.data


def test_an_older_revision_never_replaces(here: Place) -> None:
    new = document(1_700_000_000_000_002, subject="new")
    old = document(1_700_000_000_000_001, new.uuid, subject="old")
    with here.opened() as storage:
        save(storage, new)
        (outcome,) = save(storage, old)
        assert is_stored(outcome, superseded=True)
        assert kept(storage, new.uuid) == new.data


def test_the_same_revision_again_is_stored(here: Place) -> None:
    given = document(4)
    with here.opened() as storage:
        for _ in range(3):
            assert all(map(is_stored, save(storage, given)))
        assert kept(storage, given.uuid) == given.data


def test_revisions_of_any_size(here: Place) -> None:
    small, large = document(0), document(2**52)
    with here.opened() as storage:
        assert all(map(is_stored, save(storage, small, large)))
        again = [replace(small, revision=1), replace(large, revision=2**52 - 1)]
        outcomes = save(storage, *again)
    assert is_stored(outcomes[0])
    assert is_stored(outcomes[1], superseded=True)


def test_a_remembered_etag_leads_to_the_same(here: Place) -> None:
    first = document(1, subject="first")
    with here.opened() as storage:
        (outcome,) = save(storage, first)
        assert isinstance(outcome, Stored)
        second = document(2, first.uuid, subject="second")
        second.etag = outcome.etag
        (after,) = save(storage, second)
        assert is_stored(after)
        # The same one again, with an ETag that is out of date by now.
        assert all(map(is_stored, save(storage, second)))
        third = document(3, first.uuid, subject="third")
        third.etag = outcome.etag
        assert all(map(is_stored, save(storage, third)))
        assert kept(storage, first.uuid) == third.data
        late = document(2, first.uuid, subject="late")
        late.etag = outcome.etag
        (lost,) = save(storage, late)
        assert is_stored(lost, superseded=True)
        assert kept(storage, first.uuid) == third.data


def test_a_batch_answers_for_each_in_order(here: Place) -> None:
    known = document(9, subject="known")
    with here.opened() as storage:
        save(storage, known)
        older = document(8, known.uuid)
        fresh = [document(1, number=number) for number in range(40)]
        outcomes = save(storage, *fresh[:20], older, *fresh[20:])
        assert is_stored(outcomes[20], superseded=True)
        assert all(is_stored(one) for number, one in enumerate(outcomes) if number != 20)
        for one in (fresh[0], fresh[19], fresh[39]):
            assert kept(storage, one.uuid) == one.data


def test_one_bad_document_harms_no_other(here: Place) -> None:
    if here.bad is None:
        pytest.skip("this storage takes everything")
    bad = [here.bad(), here.bad()]
    good = [document() for _ in range(30)]
    with here.opened() as storage:
        outcomes = save(storage, *good[:7], bad[0], *good[7:25], bad[1], *good[25:])
        for number in (7, 26):
            outcome = outcomes.pop(7) if number == 7 else outcomes.pop(25)
            assert isinstance(outcome, Rejected)
            assert outcome.reason
        assert all(map(is_stored, outcomes))
        assert all(kept(storage, one.uuid) == one.data for one in good)
        assert storage.get(bad[0].uuid) is None
        storage.ready()


def test_what_is_no_json_never_ends_a_batch(here: Place) -> None:
    odd = [not_json(), Document(document().uuid, b"[1]", 1), Document(document().uuid, b"", 1)]
    good = document()
    with here.opened() as storage:
        *outcomes, last = save(storage, *odd, good)
        assert is_stored(last)
        assert not any(isinstance(outcome, Unavailable) for outcome in outcomes)


@pytest.mark.parametrize("uuid", ["../../../etc/passwd", "a/b", "", ".", "'", '"', "x" * 2000, "é"])
def test_a_hostile_uuid_is_just_another_document(here: Place, uuid: str) -> None:
    odd, good = document(uuid=uuid or None), document()
    odd.uuid = uuid
    with here.opened() as storage:
        outcome, other = save(storage, odd, good)
        assert is_stored(other)
        assert isinstance(outcome, Stored | Rejected)
        found = storage.get(uuid)
        assert (found is not None) == isinstance(outcome, Stored)
        assert storage.delete(uuid) == isinstance(outcome, Stored)
        assert kept(storage, good.uuid) == good.data


@pytest.mark.parametrize(
    "created_at",
    [
        None, "", "yesterday", 1735689600, "2025-01-01", "2025-01-01T00:00:00", "2025-W01-1",
        "2025-01-01t00:00:00.123456789z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
        {}, ["2025-01-01T00:00:00Z"],
    ],
)  # fmt: skip
def test_no_document_is_refused_for_its_date(here: Place, created_at: object) -> None:
    given = document(created_at=created_at)
    with here.opened() as storage:
        assert all(map(is_stored, save(storage, given)))
        assert kept(storage, given.uuid) == given.data


def test_odd_members_are_no_reason_to_refuse(here: Place) -> None:
    odd: dict[str, Any] = {
           "subject": 5, "parties": {"tel": []}, "dialog": [1, None, {"start": 3, "duration": "x"}],
           "analysis": [{"type": 7, "body": {"text": {"text": [[["deep"]]]}}}, []], "vcon": [],
           "attachments": [{"purpose": "tags", "body": 9}, {"type": "tags", "body": {"a": [1]}}],
           "extensions": "none", "created_at": True}  # fmt: skip
    given = document(**odd)
    with here.opened() as storage:
        assert all(map(is_stored, save(storage, given)))
        assert kept(storage, given.uuid) == given.data


def test_deep_nesting_ends_nothing(here: Place) -> None:
    """orjson reads 1024 levels and writes 254."""
    uuid = document().uuid
    deep = b"[" * 900 + b'"x"' + b"]" * 900
    body = b'{"uuid":"%s","analysis":[{"type":"transcript","body":%s}]}' % (uuid.encode(), deep)
    with here.opened() as storage:
        outcome, other = save(storage, Document(uuid, body, 1), document())
    assert is_stored(other)
    assert isinstance(outcome, Stored | Rejected)


@pytest.mark.parametrize(
    "uuid", ["call:2025:7", "a@example.org+1=2", "v1.0_x-y", "A", "0" * 128, "urn:uuid:1234"]
)
def test_every_uuid_that_a_vcon_may_have(here: Place, uuid: str) -> None:
    """docs/vcon.md: up to 128 letters, digits and ._:@+=-; the form of a UUID is not needed."""
    given, later = document(1, uuid), document(2, uuid, said="later")
    with here.opened() as storage:
        assert all(map(is_stored, save(storage, given, document())))
        assert kept(storage, uuid) == given.data
        assert all(map(is_stored, save(storage, later)))
        assert kept(storage, uuid) == later.data
        assert storage.delete(uuid) is True
        assert storage.get(uuid) is None


def test_a_megabyte(here: Place) -> None:
    words = "a word that is said again and again, naïve 東京 "
    big = document(analysis=[{"type": "transcript", "body": words * 25_000}])
    assert len(big.body) > 1_000_000
    with here.opened() as storage:
        assert all(map(is_stored, save(storage, big, document())))
        assert kept(storage, big.uuid) == big.data


def test_many_megabytes_in_one_batch(here: Place) -> None:
    many = [document(analysis=[{"type": "report", "body": "x" * 1_500_000}]) for _ in range(12)]
    with here.opened() as storage:
        assert all(map(is_stored, save(storage, *many)))
        assert all(kept(storage, one.uuid) == one.data for one in many)


def test_a_deleted_document_is_gone_and_can_come_back(here: Place) -> None:
    given = document(3)
    with here.opened() as storage:
        save(storage, given)
        assert storage.delete(given.uuid) is True
        assert storage.get(given.uuid) is None
        assert storage.delete(given.uuid) is False
        assert all(map(is_stored, save(storage, given)))
        assert kept(storage, given.uuid) == given.data


def test_nothing_to_save(here: Place) -> None:
    with here.opened() as storage:
        assert storage.save_many([]) == []


def test_open_and_close_twice(here: Place) -> None:
    storage = here.make()
    storage.close()
    storage.open()
    storage.open()
    storage.ready()
    given = document()
    assert all(map(is_stored, save(storage, given)))
    storage.close()
    storage.close()
    storage.open()
    with closing(storage):
        assert kept(storage, given.uuid) == given.data


def test_a_closed_storage_says_so(here: Place) -> None:
    storage = here.make()
    for call in (lambda: storage.save_many([document()]), storage.ready):
        with pytest.raises(ConnectionError, match="not open"):
            call()
    with pytest.raises(ConnectionError, match="not open"):
        storage.get(document().uuid)


def test_many_workers_open_at_the_same_time(here: Place) -> None:
    together = threading.Barrier(6)

    def work(number: int) -> bool:
        together.wait(timeout=20)
        with here.opened() as storage:
            return all(map(is_stored, save(storage, document(number=number))))

    with ThreadPoolExecutor(6) as workers:
        assert all(workers.map(work, range(6)))


def test_of_two_writers_the_newest_revision_wins(here: Place) -> None:
    """Each of two workers writes its own revisions of the same vCons, in its own order."""
    uuids = sorted(document().uuid for _ in range(5))
    together = threading.Barrier(2)

    def work(first: int) -> list[object]:
        outcomes: list[object] = []
        with here.opened() as storage:
            together.wait(timeout=20)
            for revision in range(first, 13, 2):
                batch = [document(revision, uuid, said=revision) for uuid in uuids]
                outcomes += storage.save_many(batch)
        return outcomes

    with ThreadPoolExecutor(2) as workers:
        both = [outcome for outcomes in workers.map(work, (1, 2)) for outcome in outcomes]
    assert not any(isinstance(outcome, Rejected) for outcome in both)
    with here.opened() as storage:
        for uuid in uuids:
            found = kept(storage, uuid)
            assert isinstance(found, dict)
            assert found["said"] == 12


def test_it_can_be_read_while_it_is_written(here: Place) -> None:
    given = document()
    with here.opened() as storage, ThreadPoolExecutor(2) as threads:
        save(storage, given)
        writes = [
            threads.submit(storage.save_many, [document(number=number)]) for number in range(30)
        ]
        for _ in range(30):
            assert kept(storage, given.uuid) == given.data
        assert all(is_stored(write.result()[0]) for write in writes)


_PREPARED = """
import importlib, json, os, sys, threading
module = importlib.import_module(sys.argv[1])
module.prepare(module.Options.model_validate(json.loads(sys.argv[2])))
descriptors = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")[:-1]]
assert not [name for name in descriptors if name.startswith("socket:")], descriptors
assert threading.active_count() == 1, threading.enumerate()
assert len(os.listdir("/proc/self/task")) == 1
"""


def test_preparing_opens_nothing_and_starts_nothing(here: Place) -> None:
    """What is made before a fork must be safe to inherit: no socket, no thread."""
    command = [sys.executable, "-c", _PREPARED, f"storage.{here.kind}", json.dumps(here.options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
