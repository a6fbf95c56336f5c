"""StorageContract: tests of the rules of every storage (docs/writing-storages.md), to derive from.

    class TestMyTable(StorageContract):
        module = "my_table"

        @pytest.fixture
        def options(self, tmp_path: Path) -> dict[str, Any]:
            return {"path": str(tmp_path / "reports.db")}

Each test gets a new place: options that lead to an empty table, index or folder. A storage that
limits what it takes, on purpose, says in a test of the same name what it does instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from conserver.plugins.module_names import resolve
from conserver.testing.storage_places import (
    StoragePlace,
    is_stored,
    kept,
    make_document,
    not_json,
    save,
)
from storage.contract import Document, Rejected, Storage, Stored, Unavailable

_WAIT_S = 20

EXAMPLES: dict[str, dict[str, Any]] = {
    "scripts and emoji": {"subject": "naïve façade 東京 добрый день 👍🏽 \U0001f9d1‍🦰"},
    "escapes": {"subject": 'a "quote", a \\ and a / in one line\n\r\t\x7f\u2028'},
    "a null character": {"subject": "a\0b"},
    "nothing": {"subject": None, "parties": [], "dialog": [{}], "analysis": [], "meta": {}},
    "numbers": {"dialog": [{"duration": 1.0, "n": 1e300, "m": -0.5, "big": 2**53 + 1, "zero": 0}]},
    "names": {"a.b": 1, "$c": 2, "": 3, "_id": 4, "d e": {"f.g": {"$h": []}}},
    "signed": {"payload": "eyJ1dWlkIjoieCJ9", "signatures": [{"signature": "AAAA"}]},
    "encrypted": {"ciphertext": "AAAA", "recipients": [{"encrypted_key": "AAAA"}], "iv": "AAAA"},
}
"""Members of documents that are unusual and right."""


class StorageContract:
    """Derive a class whose name begins with Test; set `module` and define the fixture `options`."""

    module: ClassVar[str]
    keeps_bytes: ClassVar[bool] = False

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """The storage's options. They must lead to a new, empty place."""
        raise NotImplementedError("give the fixture `options`")

    @pytest.fixture
    def here(self, options: Mapping[str, Any]) -> StoragePlace:
        """The place. Override it if `module` and `options` are not enough."""
        return StoragePlace(
            module=self.module,
            options=options,
            keeps_bytes=self.keeps_bytes,
            unacceptable=self.unacceptable,
        )

    def unacceptable(self) -> Document | None:
        """A new document that the storage will never take; None if there is none."""
        return None

    def test_it_fulfils_the_protocol(self, here: StoragePlace) -> None:
        assert isinstance(here.make(), Storage)
        assert here.make().name == "tested"

    def test_what_is_saved_is_given_back(self, here: StoragePlace) -> None:
        with here.opened() as storage:
            first, second = make_document(subject="one"), make_document(subject="two")
            assert all(map(is_stored, save(storage, first, second)))
            assert kept(storage, first.uuid) == first.data
            assert kept(storage, second.uuid) == second.data

    def test_what_was_never_saved_is_not_there(self, here: StoragePlace) -> None:
        with here.opened() as storage:
            assert storage.get(make_document().uuid) is None
            assert storage.delete(make_document().uuid) is False

    @pytest.mark.parametrize("example", EXAMPLES)
    def test_a_document_is_kept_as_it_is_or_rejected(
        self, here: StoragePlace, example: str
    ) -> None:
        uuid = str(uuid4())
        data = {"uuid": uuid, **EXAMPLES[example]}
        given = Document(uuid, json.dumps(data, indent=1, ensure_ascii=False).encode(), 7)
        with here.opened() as storage:
            (outcome,) = save(storage, given)
            if isinstance(outcome, Rejected):
                assert outcome.reason
                assert storage.get(uuid) is None
                return
            assert is_stored(outcome)
            if here.keeps_bytes:
                assert storage.get(uuid) == given.body
            assert kept(storage, uuid) == data

    def test_a_newer_revision_replaces(self, here: StoragePlace) -> None:
        old = make_document(5, subject="old")
        new = make_document(6, old.uuid, subject="new")
        with here.opened() as storage:
            save(storage, old)
            assert all(map(is_stored, save(storage, new)))
            assert kept(storage, old.uuid) == new.data

    def test_an_older_revision_never_replaces(self, here: StoragePlace) -> None:
        new = make_document(1_700_000_000_000_002, subject="new")
        old = make_document(1_700_000_000_000_001, new.uuid, subject="old")
        with here.opened() as storage:
            save(storage, new)
            (outcome,) = save(storage, old)
            assert is_stored(outcome, superseded=True)
            assert kept(storage, new.uuid) == new.data

    def test_the_same_revision_again_is_stored(self, here: StoragePlace) -> None:
        given = make_document(4)
        with here.opened() as storage:
            for _ in range(3):
                assert all(map(is_stored, save(storage, given)))
            assert kept(storage, given.uuid) == given.data

    def test_revisions_of_any_size(self, here: StoragePlace) -> None:
        small, large = make_document(0), make_document(2**52)
        with here.opened() as storage:
            assert all(map(is_stored, save(storage, small, large)))
            again = [replace(small, revision=1), replace(large, revision=2**52 - 1)]
            outcomes = save(storage, *again)
        assert is_stored(outcomes[0])
        assert is_stored(outcomes[1], superseded=True)

    def test_a_remembered_etag_leads_to_the_same(self, here: StoragePlace) -> None:
        first = make_document(1, subject="first")
        with here.opened() as storage:
            (outcome,) = save(storage, first)
            assert isinstance(outcome, Stored)
            second = make_document(2, first.uuid, subject="second")
            second.etag = outcome.etag
            (after,) = save(storage, second)
            assert is_stored(after)
            # The same document again, with an outdated ETag.
            assert all(map(is_stored, save(storage, second)))
            third = make_document(3, first.uuid, subject="third")
            third.etag = outcome.etag
            assert all(map(is_stored, save(storage, third)))
            assert kept(storage, first.uuid) == third.data
            late = make_document(2, first.uuid, subject="late")
            late.etag = outcome.etag
            (lost,) = save(storage, late)
            assert is_stored(lost, superseded=True)
            assert kept(storage, first.uuid) == third.data

    def test_a_batch_answers_for_each_in_order(self, here: StoragePlace) -> None:
        known = make_document(9, subject="known")
        with here.opened() as storage:
            save(storage, known)
            older = make_document(8, known.uuid)
            fresh = [make_document(1, number=number) for number in range(40)]
            outcomes = save(storage, *fresh[:20], older, *fresh[20:])
            assert is_stored(outcomes[20], superseded=True)
            assert all(is_stored(one) for number, one in enumerate(outcomes) if number != 20)
            for one in (fresh[0], fresh[19], fresh[39]):
                assert kept(storage, one.uuid) == one.data

    def test_one_bad_document_harms_no_other(self, here: StoragePlace) -> None:
        bad = [one for one in (here.unacceptable(), here.unacceptable()) if one is not None]
        if not bad:
            pytest.skip("this storage takes everything")
        good = [make_document() for _ in range(30)]
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

    def test_what_is_no_json_never_ends_a_batch(self, here: StoragePlace) -> None:
        uuids = [str(uuid4()) for _ in range(2)]
        odd = [not_json(), Document(uuids[0], b"[1]", 1), Document(uuids[1], b"", 1)]
        good = make_document()
        with here.opened() as storage:
            *outcomes, last = save(storage, *odd, good)
            assert is_stored(last)
            assert not any(isinstance(outcome, Unavailable) for outcome in outcomes)

    @pytest.mark.parametrize(
        "uuid", ["../../../etc/passwd", "a/b", "", ".", "'", '"', "x" * 2000, "é"]
    )
    def test_a_hostile_uuid_is_just_another_document(self, here: StoragePlace, uuid: str) -> None:
        odd, good = make_document(uuid=uuid or None), make_document()
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
            "2025-01-01t00:00:00.123456789z", "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-12:00", {}, ["2025-01-01T00:00:00Z"],
        ],
    )  # fmt: skip
    def test_no_document_is_refused_for_its_date(
        self, here: StoragePlace, created_at: object
    ) -> None:
        given = make_document(created_at=created_at)
        with here.opened() as storage:
            assert all(map(is_stored, save(storage, given)))
            assert kept(storage, given.uuid) == given.data

    def test_odd_members_are_no_reason_to_refuse(self, here: StoragePlace) -> None:
        odd: dict[str, Any] = {
               "subject": 5, "parties": {"tel": []}, "dialog": [1, None, {"start": 3}],
               "analysis": [{"type": 7, "body": {"text": {"text": [[["deep"]]]}}}, []], "vcon": [],
               "attachments": [{"purpose": "tags", "body": 9}, {"type": "tags", "body": {"a": 1}}],
               "extensions": "none", "created_at": True}  # fmt: skip
        given = make_document(**odd)
        with here.opened() as storage:
            assert all(map(is_stored, save(storage, given)))
            assert kept(storage, given.uuid) == given.data

    @pytest.mark.parametrize(
        "uuid", ["call:2025:7", "a@example.org+1=2", "v1.0_x-y", "A", "0" * 128, "urn:uuid:1234"]
    )
    def test_every_uuid_that_a_vcon_may_have(self, here: StoragePlace, uuid: str) -> None:
        """docs/vcon.md: a uuid has up to 128 letters, digits and ._:@+=- and need not be a UUID."""
        given, later = make_document(1, uuid), make_document(2, uuid, said="later")
        with here.opened() as storage:
            assert all(map(is_stored, save(storage, given, make_document())))
            assert kept(storage, uuid) == given.data
            assert all(map(is_stored, save(storage, later)))
            assert kept(storage, uuid) == later.data
            assert storage.delete(uuid) is True
            assert storage.get(uuid) is None

    def test_deep_nesting_ends_nothing(self, here: StoragePlace) -> None:
        """orjson reads 1024 levels and writes 254."""
        uuid = str(uuid4())
        deep = b"[" * 900 + b'"x"' + b"]" * 900
        body = b'{"uuid":"%s","analysis":[{"type":"transcript","body":%s}]}' % (uuid.encode(), deep)
        with here.opened() as storage:
            outcome, other = save(storage, Document(uuid, body, 1), make_document())
        assert is_stored(other)
        assert isinstance(outcome, Stored | Rejected)

    def test_a_megabyte(self, here: StoragePlace) -> None:
        words = "a word that is said again and again, naïve 東京 "
        big = make_document(analysis=[{"type": "transcript", "body": words * 25_000}])
        assert len(big.body) > 1_000_000
        with here.opened() as storage:
            assert all(map(is_stored, save(storage, big, make_document())))
            assert kept(storage, big.uuid) == big.data

    def test_many_megabytes_in_one_batch(self, here: StoragePlace) -> None:
        analysis = [{"type": "report", "body": "x" * 1_500_000}]
        many = [make_document(analysis=analysis) for _ in range(12)]
        with here.opened() as storage:
            assert all(map(is_stored, save(storage, *many)))
            assert all(kept(storage, one.uuid) == one.data for one in many)

    def test_a_deleted_document_is_gone_and_can_come_back(self, here: StoragePlace) -> None:
        given = make_document(3)
        with here.opened() as storage:
            save(storage, given)
            assert storage.delete(given.uuid) is True
            assert storage.get(given.uuid) is None
            assert storage.delete(given.uuid) is False
            assert all(map(is_stored, save(storage, given)))
            assert kept(storage, given.uuid) == given.data

    def test_nothing_to_save(self, here: StoragePlace) -> None:
        with here.opened() as storage:
            assert storage.save_many([]) == []

    def test_open_and_close_twice(self, here: StoragePlace) -> None:
        storage = here.make()
        storage.close()
        storage.open()
        storage.open()
        storage.ready()
        given = make_document()
        assert all(map(is_stored, save(storage, given)))
        storage.close()
        storage.close()
        storage.open()
        with closing(storage):
            assert kept(storage, given.uuid) == given.data

    def test_a_closed_storage_says_so(self, here: StoragePlace) -> None:
        storage = here.make()
        for call in (lambda: storage.save_many([make_document()]), storage.ready):
            with pytest.raises(ConnectionError, match="not open"):
                call()
        with pytest.raises(ConnectionError, match="not open"):
            storage.get(make_document().uuid)

    def test_many_workers_open_at_the_same_time(self, here: StoragePlace) -> None:
        together = threading.Barrier(6)

        def work(number: int) -> bool:
            together.wait(timeout=_WAIT_S)
            with here.opened() as storage:
                return all(map(is_stored, save(storage, make_document(number=number))))

        with ThreadPoolExecutor(6) as workers:
            assert all(workers.map(work, range(6)))

    def test_of_two_writers_the_newest_revision_wins(self, here: StoragePlace) -> None:
        """Two workers write different revisions of the same vCons, each in another order."""
        uuids = sorted(str(uuid4()) for _ in range(5))
        together = threading.Barrier(2)

        def work(first: int) -> list[object]:
            outcomes: list[object] = []
            with here.opened() as storage:
                together.wait(timeout=_WAIT_S)
                for revision in range(first, 13, 2):
                    batch = [make_document(revision, uuid, said=revision) for uuid in uuids]
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

    def test_it_can_be_read_while_it_is_written(self, here: StoragePlace) -> None:
        given = make_document()
        with here.opened() as storage, ThreadPoolExecutor(2) as threads:
            save(storage, given)
            writes = [
                threads.submit(storage.save_many, [make_document(number=number)])
                for number in range(30)
            ]
            for _ in range(30):
                assert kept(storage, given.uuid) == given.data
            assert all(is_stored(write.result()[0]) for write in writes)

    def test_preparing_opens_nothing_and_starts_nothing(self, here: StoragePlace) -> None:
        """`prepare` runs before a fork, so it must open no socket and start no thread."""
        options = json.dumps(dict(here.options))
        command = [sys.executable, "-c", _PREPARED, resolve(here.module), options, *sys.path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


_PREPARED = """
import importlib, json, os, sys, threading
sys.path[:] = sys.argv[3:]
module = importlib.import_module(sys.argv[1])
module.prepare(module.Options.model_validate(json.loads(sys.argv[2])))
descriptors = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")[:-1]]
assert not [name for name in descriptors if name.startswith("socket:")], descriptors
assert threading.active_count() == 1, threading.enumerate()
assert len(os.listdir("/proc/self/task")) == 1
"""
