"""writers.py: items are saved in bulk, and each one gets an answer whatever the storage does.

The threads are real; the storage is in memory and misbehaves as the test says.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from structlog.testing import capture_logs

from conserver.config.model import ChainConfig
from conserver.process.shared_status import SharedStatus
from conserver.queue.record import Claimed, Progress
from conserver.vcon.document import Vcon
from conserver.worker import writers
from conserver.worker.inbox import StorageReport, WorkerInbox
from conserver.worker.item import Item, Route
from conserver.worker.writers import SAVE_BYTES_MAX, SAVE_ITEMS_MAX, Writer
from storage.contract import Rejected, Stored, Unavailable
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import document
from tests.workers import storage

pytestmark = pytest.mark.real_time


@dataclass(eq=False)
class Watched(Item):
    """An item that a weak reference can point at."""


def item(uuid: str, revision: int = 1, text: bytes = b"", **fields: Any) -> Item:
    text = text or document(uuid)
    claimed = Claimed(f"token-{uuid}", 1, 0, False, 0, "in", b"", uuid.encode())
    route = Route("main", ChainConfig(ingress_lists=["in"]), (), (), (), None, 0.0)
    made = Watched(claimed, route, Progress(), 0, 0.0, uuid=uuid, text=text, revision=revision)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Setup:
    """A writer, its storage's shelf, and the inbox that it reports to."""

    def __init__(
        self, timeout_s: float = 30.0, hung_calls_max: int = writers.HUNG_CALLS_MAX
    ) -> None:
        name = unique("shelf-")
        self.shelf = memory.shelf(name)
        self.inbox = WorkerInbox(SharedStatus.create("test"))
        self.writer = Writer(storage(name, timeout_s), self.inbox, hung_calls_max)

    def save(self, *items: Item) -> list[Any]:
        """Save items and wait for their outcomes. Returns these in the order of the items."""
        self.writer.save(items)
        return self.outcomes_of(*items)

    def outcomes_of(self, *items: Item) -> list[Any]:
        """Wait for the outcomes of items that were saved."""
        wanted = {one.token for one in items}

        def found() -> dict[str, Any] | None:
            reports = list(self.inbox.reports)
            known = {one.token: outcome for report in reports for one, outcome in report.outcomes}
            return known if wanted <= known.keys() else None

        known = eventually(found)
        assert known is not None
        return [known[one.token] for one in items]

    def abandon(self) -> None:
        """Check the timeout as the worker loop does, until the call that hangs is abandoned."""

        def abandoned() -> bool:
            self.writer.check_timeout()
            return bool(self.inbox.reports)

        eventually(abandoned)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that is set at the end, so that no thread is left hanging."""
    event = threading.Event()
    yield event
    event.set()


def hang(setup: Setup, gate: threading.Event, *items: Item) -> None:
    """Save these items in a call that hangs until the gate is set; wait until it has begun."""
    begun = threading.Event()
    setup.shelf.on_save.append(memory.waits_for(gate, begun))
    setup.writer.save(items)
    assert begun.wait(60)


# ---- bulks ---------------------------------------------------------------------------------------


def test_each_saved_item_gets_an_outcome() -> None:
    setup = Setup()
    one, two = item("u1", 5), item("u2", 6)
    assert setup.save(one, two) == [Stored("etag-5"), Stored("etag-6")]
    kept = setup.shelf.documents["u1"]
    assert (kept.body, kept.revision) == (one.text, 5)
    assert setup.shelf.opened == 1


def test_items_that_wait_during_a_call_are_saved_in_one_call_sorted_by_uuid(
    gate: threading.Event,
) -> None:
    setup = Setup()
    hang(setup, gate, item("first"))
    rest = [item(f"u{number}") for number in (7, 3, 9, 1)]
    for one in rest:
        setup.writer.save([one])
    gate.set()
    setup.outcomes_of(*rest)
    assert setup.shelf.uuids == [["first"], ["u1", "u3", "u7", "u9"]]


def test_of_one_uuid_the_highest_revision_is_saved_and_its_outcome_is_that_of_all(
    gate: threading.Event,
) -> None:
    setup = Setup()
    hang(setup, gate, item("first"))
    older, newer = item("u1", 4), item("u1", 8)
    newer.claimed.token = "other"
    setup.writer.save([newer, older])
    gate.set()
    assert setup.outcomes_of(older, newer) == [Stored("etag-8"), Stored("etag-8")]
    assert [one.revision for one in setup.shelf.saves[1]] == [8]


def test_a_call_is_bounded_by_count_and_by_bytes(gate: threading.Event) -> None:
    setup = Setup()
    hang(setup, gate, item("first"))
    many = [item(f"u{number:04}") for number in range(SAVE_ITEMS_MAX + 1)]
    large = [item(f"v{n}", text=b" " * (SAVE_BYTES_MAX // 2)) for n in range(3)]
    huge = item("w", text=b" " * (SAVE_BYTES_MAX * 2))
    setup.writer.save([*many, *large, huge])
    gate.set()
    setup.outcomes_of(*many, *large, huge)
    sizes = [len(call) for call in setup.shelf.saves]
    assert sizes == [1, 256, 2, 2, 1], (
        "256; the 257th and a large one; two large ones; the huge one"
    )


def test_a_storage_gets_the_parsed_document_and_its_own_etag() -> None:
    setup = Setup()
    one, two, three = item("u1"), item("u2"), item("u3")
    one.vcon = Vcon.parse(one.text)
    one.progress.etags[setup.writer.name] = "newer"
    one.claimed.etags[setup.writer.name] = "older"
    two.claimed.etags[setup.writer.name] = "older"
    three.claimed.etags["another"] = "not ours"
    setup.save(one, two, three)
    [first, second, third] = setup.shelf.saves[0]
    assert first.parsed is one.vcon.view
    assert (first.etag, second.etag, third.etag) == ("newer", "older", None)
    assert second.parsed is None


def test_a_rejected_document_does_not_affect_the_others() -> None:
    setup = Setup()
    setup.shelf.on_save.append(memory.refuses("u2"))
    answers = setup.save(item("u1"), item("u2"), item("u3"))
    assert answers == [Stored(), Rejected("not wanted"), Stored()]
    assert setup.save(item("u4")) == [Stored("etag-1")], "the breaker is closed"


def test_an_unavailable_document_does_not_hold_back_the_others() -> None:
    setup = Setup()
    setup.shelf.on_save.append(memory.misses("u2"))
    answers = setup.save(item("u1"), item("u2"))
    assert answers == [Stored(), Unavailable("no room")]
    assert isinstance(setup.save(item("u3"))[0], Stored)


def test_an_idle_writer_keeps_no_reference_to_an_item() -> None:
    setup = Setup()
    one = item("u1")
    ghost = weakref.ref(one)
    setup.save(one)
    setup.inbox.reports.clear()
    setup.shelf.saves.clear()
    del one

    def gone() -> bool:
        gc.collect()
        return ghost() is None

    eventually(gone, message="documents are large, and the next may not come for hours")


# ---- an unavailable storage ----------------------------------------------------------------------


def test_a_broken_client_is_closed_and_its_items_are_unavailable() -> None:
    setup = Setup()
    setup.shelf.on_save.append(memory.breaks())
    with capture_logs() as lines:
        [answer] = setup.save(item("u1"))
    assert isinstance(answer, Unavailable)
    assert answer.reason == "ConnectionError: the connection is gone"
    assert answer.after_s is not None
    assert answer.after_s > 0.4
    assert (setup.shelf.opened, setup.shelf.closed) == (1, 1)
    assert [line["event"] for line in lines] == ["storage_away"]


def test_a_storage_that_is_away_for_another_reason_says_so_once() -> None:
    setup = Setup()
    deeds = ["refused at 10:01", "refused at 10:02", "read-only", "read-only"]
    setup.shelf.on_save += [memory.away(reason, after_s=0.0) for reason in deeds]
    uuids = (f"u{number}" for number in count())
    with capture_logs() as lines:
        # Until the breaker has let all of them through.
        eventually(lambda: setup.save(item(next(uuids))) and len(setup.shelf.saves) == len(deeds))
    reasons = [line["reason"] for line in lines if line["event"] == "storage_away"]
    assert reasons == ["refused at 10:01", "read-only"]
    assert setup.writer.away_reason == "read-only"


def test_an_open_breaker_answers_without_a_call() -> None:
    setup = Setup()
    setup.shelf.on_save.append(memory.away("maintenance", after_s=30))
    setup.save(item("u1"))
    [answer] = setup.save(item("u2"))
    assert isinstance(answer, Unavailable)
    assert answer.reason == "maintenance"
    assert answer.after_s is not None
    assert 29 < answer.after_s < 50
    assert len(setup.shelf.saves) == 1
    assert setup.shelf.closed == 0, "an Unavailable outcome does not mean a broken client"


def test_calls_grow_after_a_probe_has_succeeded(gate: threading.Event) -> None:
    setup = Setup()
    setup.shelf.on_save.append(memory.breaks())
    setup.save(item("u0"))
    items = [item(f"u{number:03}") for number in range(1, 30)]

    def stored() -> bool:
        setup.inbox.reports.clear()
        return all(isinstance(answer, Stored) for answer in setup.save(*items))

    with capture_logs() as lines:
        eventually(stored)
    assert [len(call) for call in setup.shelf.saves] == [1, 1, 4, 16, 8]
    assert setup.shelf.opened == 2
    assert [line["event"] for line in lines] == ["storage_back"]


def test_a_storage_that_cannot_be_opened_is_unavailable_and_closed() -> None:
    setup = Setup()
    setup.shelf.on_open += [memory.breaks(OSError("no such host")), memory.as_ever]
    [answer] = setup.save(item("u1"))
    assert isinstance(answer, Unavailable)
    assert "no such host" in answer.reason
    assert (setup.shelf.opened, setup.shelf.closed) == (1, 1)
    assert setup.shelf.saves == []


@pytest.mark.parametrize(
    "answers", [(), (Stored(),), (Stored(), Stored(), Stored()), (Stored(), None), (Stored(), 1)]
)
def test_a_storage_that_returns_wrong_outcomes_is_unavailable(answers: tuple[Any, ...]) -> None:
    # Regression: an item whose outcome was of no known type was stored again and again.
    setup = Setup()
    setup.shelf.on_save.append(memory.answers(*answers))
    first, second = setup.save(item("u1"), item("u2"))
    assert isinstance(first, Unavailable)
    assert isinstance(second, Unavailable)
    eventually(lambda: isinstance(setup.save(item(unique("u")))[0], Stored))


# ---- a storage that hangs ------------------------------------------------------------------------


def test_a_call_that_hangs_is_abandoned_and_its_client_replaced(gate: threading.Event) -> None:
    setup = Setup(timeout_s=0.05)
    one = item("u1")
    hang(setup, gate, one)
    waiting = item("u2")
    setup.writer.save([waiting])
    with capture_logs() as lines:
        setup.abandon()
    [answer] = setup.outcomes_of(one)
    assert isinstance(answer, Unavailable)
    assert "no answer for 0 s" in answer.reason
    assert isinstance(setup.outcomes_of(waiting)[0], Unavailable), "answered by the breaker"
    assert "storage_hangs" in [line["event"] for line in lines]
    eventually(lambda: isinstance(setup.save(item(unique("u")))[0], Stored))
    assert setup.shelf.opened == 2


def test_a_call_within_the_timeout_is_left_alone(gate: threading.Event) -> None:
    setup = Setup()
    one = item("u1")
    hang(setup, gate, one)
    for _ in range(10):
        setup.writer.check_timeout()
    gate.set()
    assert setup.outcomes_of(one) == [Stored("etag-1")]
    assert not setup.writer.has_too_many_hung_calls


def test_the_result_of_an_abandoned_call_is_ignored(gate: threading.Event) -> None:
    setup = Setup(timeout_s=0.05)
    one = item("u1")
    hang(setup, gate, one)
    setup.abandon()
    reports = len(setup.inbox.reports)
    with capture_logs() as lines:
        gate.set()
        eventually(lambda: setup.shelf.closed == 1, message="the abandoned client is closed")
    assert len(setup.inbox.reports) == reports
    assert lines == [], "not storage_back: the storage has not been asked again"
    [answer] = setup.save(item("u2"))
    assert isinstance(answer, Unavailable), "the breaker is still open"


def test_an_abandoned_batch_is_not_continued(gate: threading.Event) -> None:
    # Regression: an abandoned thread continued its batch beside its successor.
    setup = Setup(timeout_s=0.05)
    setup.shelf.on_save.append(memory.away(after_s=0.01))
    setup.save(item("u0"))
    begun = threading.Event()
    probes = [item(f"u{number}") for number in range(1, 9)]

    def hanging() -> bool:
        setup.inbox.reports.clear()
        setup.shelf.on_save.clear()
        setup.shelf.on_save.append(memory.waits_for(gate, begun))
        setup.writer.save(probes)
        return bool(eventually(lambda: begun.is_set() or setup.inbox.reports)) and begun.is_set()

    eventually(hanging)
    setup.abandon()
    gate.set()
    eventually(lambda: setup.shelf.closed == 1)
    assert [len(call) for call in setup.shelf.saves] == [1, 1], "the probe, and nothing after it"


def test_a_process_with_too_many_hung_calls_should_be_replaced(gate: threading.Event) -> None:
    # Each one keeps a thread and a client.
    setup = Setup(timeout_s=0.05, hung_calls_max=1)
    hang(setup, gate, item("u1"))
    spent = [setup.writer.has_too_many_hung_calls]
    setup.abandon()
    spent.append(setup.writer.has_too_many_hung_calls)
    gate.set()
    assert spent == [False, True]
    eventually(lambda: not setup.writer.has_too_many_hung_calls, message="the call has returned")


# ---- look-ups ------------------------------------------------------------------------------------


def report_of(setup: Setup, one: Item) -> StorageReport:
    setup.writer.look_up(one)
    return eventually(
        lambda: next((r for r in setup.inbox.reports if r.looked_up is one), None)
    ) or StorageReport("", [])


def test_a_document_is_looked_up() -> None:
    setup = Setup()
    setup.save(item("u1"))
    assert report_of(setup, item("u1")).found == document("u1")
    report = report_of(setup, item("u2"))
    assert (report.found, report.outcomes) == (None, [])


def test_an_open_breaker_answers_a_look_up_without_a_call() -> None:
    setup = Setup()
    setup.shelf.on_get.append(memory.breaks())
    one, two = item("u1"), item("u2")
    [(_, answer)] = report_of(setup, one).outcomes
    assert isinstance(answer, Unavailable)
    [(_, answer)] = report_of(setup, two).outcomes
    assert isinstance(answer, Unavailable)
    assert setup.shelf.lookups == ["u1"]
    assert setup.shelf.closed == 1


def test_a_look_up_that_hangs_is_answered_as_a_look_up(gate: threading.Event) -> None:
    # Regression: it was answered like a save, and the item stayed in the worker for ever.
    setup = Setup(timeout_s=0.05)
    begun = threading.Event()
    setup.shelf.on_get.append(memory.waits_for(gate, begun))
    one = item("u1")
    setup.writer.look_up(one)
    assert begun.wait(60)
    setup.abandon()
    [report] = setup.inbox.reports
    assert report.looked_up is one
    [(_, answer)] = report.outcomes
    assert isinstance(answer, Unavailable)


def test_saves_and_look_ups_are_done_in_order(gate: threading.Event) -> None:
    setup = Setup()
    hang(setup, gate, item("first"))
    looked, stored = item("u1"), item("u2")
    setup.writer.save([item("u0")])
    setup.writer.look_up(looked)
    setup.writer.save([stored])
    gate.set()
    setup.outcomes_of(stored)
    assert setup.shelf.uuids == [["first"], ["u0"], ["u2"]]
    assert any(report.looked_up is looked for report in setup.inbox.reports)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (memory.breaks(), "ConnectionError: the connection is gone (pg:5432)"),
        (memory.away("busy"), "busy (pg:5432)"),
        (memory.away("pg:5432 is busy"), "pg:5432 is busy"),
    ],
)
def test_a_storage_that_is_away_says_where_it_is(deed: Any, reason: str) -> None:
    """Its client often does not: `[Errno 111] Connection refused`."""
    setup = Setup()
    setup.shelf.on_save.append(deed)
    loaded = storage(setup.writer.name)

    def make() -> Any:
        made: Any = loaded.make()
        made.place = "pg:5432"
        return made

    with capture_logs() as lines:
        setup.writer = Writer(replace(loaded, make=make), setup.inbox)
        [answer] = setup.save(item("u1"))
    assert answer.reason == reason
    assert [line["reason"] for line in lines if line["event"] == "storage_away"] == [reason]
