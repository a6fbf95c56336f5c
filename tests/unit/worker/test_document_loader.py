"""document_loader.py: how items get their documents, from Redis and from storages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from conserver.process.shared_status import Phase
from conserver.queue import calls
from conserver.queue.record import Progress
from conserver.vcon.document import Vcon
from storage.contract import Document
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.workers import SteppedWorker, document, link, nothing, storage, tag

Make = Callable[..., SteppedWorker]


def test_documents_are_read_in_calls_of_4_mib_or_one(make: Make) -> None:
    worker = make()
    body = document("u1", attachments=[{"body": "x" * (3 << 20)}])
    worker.queue.store("u1", body)
    worker.queue.supply("in", "small")
    worker.queue.push("in", "u1", "u1")
    before = worker.redis.calls
    items = worker.claim()
    assert [item.uuid for item in items] == ["small", "u1", "u1"]
    assert [item.counted_bytes for item in items[1:]] == [len(body)] * 2
    assert items[2].text == body
    assert worker.redis.calls - before <= 4, "a claim (and loading its script), and two reads"


def test_a_document_that_is_too_large_is_not_read(make: Make) -> None:
    worker = make(max_document_bytes=5000)
    worker.queue.store("u1", document("u1", attachments=[{"body": "x" * 5000}]))
    worker.queue.push("in", "u1")
    [item] = worker.claim()
    assert item.text == b""
    worker.run(item)
    worker.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert "larger than CONSERVER_MAX_DOCUMENT_BYTES" in why["error"]


def test_a_death_while_a_large_document_is_read_counts_against_its_item(make: Make) -> None:
    # Reading it may exhaust the memory of the worker.
    blamed: list[list[str]] = []

    def look(worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        if words[0] == "MGET":
            blamed.append([item.uuid for item in worker.status.read().items if item.phase.at_work])

    worker = make(before_command=look)
    worker.queue.store("u1", document("u1", attachments=[{"body": "x" * calls.BATCH_BYTES}]))
    worker.queue.supply("in", "u2", "u3")
    worker.queue.push("in", "u1")
    worker.claim()
    assert blamed == [[], ["u1"]]
    assert {item.phase for item in worker.status.read().items} == {Phase.QUEUED}


@pytest.mark.parametrize(
    ("kind", "words_"), [("none", "does not exist"), ("hash", "is a Redis hash")]
)
def test_a_document_that_is_deleted_between_claim_and_reading(
    make: Make, kind: str, words_: str
) -> None:
    def delete(worker: SteppedWorker, words: tuple[Any, ...]) -> None:
        if words[0] == "MGET":
            worker.client.delete("vcon:u1")
            if kind != "none":
                worker.queue.make_key("vcon:u1", kind)

    worker = make(before_command=delete)
    worker.queue.supply("in", "u1", "u2", "u3")  # a claim of fewer carries small documents itself
    items = worker.claim()
    assert items[1].text == worker.client.get("vcon:u2")
    worker.run(*items)
    worker.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert words_ in why["error"]


@pytest.mark.parametrize(
    ("kind", "words_"), [("hash", "is a Redis hash"), ("list", "is a Redis list")]
)
def test_a_key_that_is_no_document_is_a_dead_letter(make: Make, kind: str, words_: str) -> None:
    worker = make(storages=[storage(unique("shelf-"))])
    worker.queue.make_key("vcon:u1", kind)
    worker.queue.push("in", "u1")
    worker.work()
    [(why, _)] = worker.queue.reasons("in")
    assert words_ in why["error"]


# ---- documents that Redis does not have ----------------------------------------------------------


def keep(shelf: str, uuid: str, **members: Any) -> bytes:
    """Put a document into a storage. Returns it."""
    text = document(uuid, **members)
    memory.shelf(shelf).put([Document(uuid, text, 1)])
    return text


def test_a_missing_document_comes_back_from_the_storage_that_has_it(
    make: Make, shelves: list[str]
) -> None:
    worker = make(links=[link("a", tag)], storages=[storage(name) for name in shelves])
    text = keep(shelves[1], "u1")
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [item] = worker.take_queued()
    assert (item.text, item.counted_bytes) == (text, len(text))
    assert worker.client.get("vcon:u1") == text, "nobody has to look it up again"
    worker.run(item)
    for _ in shelves:
        worker.store()
    assert worker.out() == ["u1"]
    assert Vcon.parse(worker.client.get("vcon:u1") or b"").tags == {"seen": "yes"}
    assert worker.held.document_bytes == 0


def test_a_document_that_no_storage_has_is_a_dead_letter(make: Make, shelves: list[str]) -> None:
    worker = make(storages=[storage(name) for name in shelves])
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.run(*worker.take_queued())
    worker.flush()
    [(why, _)] = worker.queue.reasons("in")
    assert "neither in Redis nor in any storage" in why["error"]
    assert [memory.shelf(name).lookups for name in shelves] == [["u1"], ["u1"]]


def test_an_item_waits_for_an_unavailable_storage_that_may_have_its_document(
    make: Make, shelves: list[str]
) -> None:
    # Regression: it was dead-lettered as missing while the storage that had it was down.
    worker = make(storages=[storage(name) for name in shelves])
    keep(shelves[0], "u1")
    memory.shelf(shelves[0]).on_get.append(memory.breaks())
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [parked] = worker.queue.parked("in")
    assert Progress.load(parked.state).owed is None, "its links have not run"
    assert worker.inflight == 0


def test_a_look_up_that_hangs_counts_as_unavailable(make: Make, shelves: list[str]) -> None:
    # Regression: its item stayed in the worker for ever, or was settled as if it owed nothing.
    worker = make(storages=[storage(shelves[0], 0.05), storage(shelves[1])])
    keep(shelves[1], "u1")
    gate = threading.Event()
    memory.shelf(shelves[0]).on_get.append(memory.waits_for(gate))
    worker.queue.push("in", "u1")
    assert worker.claim() == []

    def given_up() -> bool:
        worker.writers[shelves[0]].check_timeout()
        return bool(worker.inbox.reports)

    eventually(given_up)
    gate.set()
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [item] = worker.take_queued()
    assert item.text == document("u1"), "the other storage has it"
    assert item.answers is None


def test_a_restored_document_does_not_replace_one_that_was_written_meanwhile(
    make: Make, shelves: list[str]
) -> None:
    # Regression: the producer's correction was overwritten with the storage's copy.
    worker = make(links=[link("a", tag)], storages=[storage(shelves[0])])
    keep(shelves[0], "u1", subject="old")
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.client.set("vcon:u1", document("u1", subject="corrected"))
    worker.flush()
    [item] = worker.take_queued()
    worker.run(item)
    worker.store()
    body = orjson.loads(worker.client.get("vcon:u1") or b"{}")
    assert body["subject"] == "corrected"
    assert Vcon.parse(orjson.dumps(body)).tags == {"seen": "yes"}
    assert worker.out() == ["u1"]


def test_a_document_is_found_where_another_chain_has_stored_it(
    make: Make, shelves: list[str]
) -> None:
    # The other chain lets it expire while an item of this chain is parked.
    chains = {
        "main": {"ingress_lists": ["in"], "storages": [shelves[0]]},
        "other": {"ingress_lists": ["other"], "storages": [shelves[1]]},
    }
    storages = [storage(shelves[0]), storage(shelves[1])]
    worker = make(links=[link("a", nothing)], storages=storages, chains=chains)
    text = keep(shelves[1], "u1")
    worker.queue.push("in", "u1")
    assert worker.claim() == []
    worker.receive_report()
    worker.receive_report()
    worker.flush()
    [item] = worker.take_queued()
    assert item.text == text


def test_a_pushed_value_that_is_no_uuid_is_not_looked_up(make: Make, shelves: list[str]) -> None:
    worker = make(links=[link("a", nothing)], storages=[storage(shelves[0])])
    worker.queue.push("in", "../../etc/passwd")
    worker.work()
    assert memory.shelf(shelves[0]).lookups == []
    assert len(worker.queue.dead("in")) == 1
