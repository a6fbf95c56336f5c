"""writers.py: what waits for a storage goes in bulk, and every item gets an answer, come what may.

The threads are real, the storage is in memory and does what the test says.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from structlog.testing import capture_logs

from conserver.config.model import ChainConfig
from conserver.queue.record import Claimed, Progress
from conserver.vcon.document import Vcon
from conserver.worker import writers
from conserver.worker.item import Item, Route
from conserver.worker.writers import StorageReport, Writer
from storage.contract import Rejected, Stored, Unavailable
from tests.conftest import unique
from tests.helpers import eventually
from tests.modules import memory
from tests.queues import document
from tests.workers import storage


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


class Desk:
    """A writer, its storage's shelf, and what it has reported."""

    def __init__(self, timeout_s: float = 30.0, hung_most: int = writers.HUNG_MOST) -> None:
        name = unique("shelf-")
        self.shelf = memory.shelf(name)
        self.reports: list[StorageReport] = []
        self.writer = Writer(storage(name, timeout_s), self.reports.append, hung_most)

    def answer(self, *items: Item) -> list[Any]:
        """Put items and wait for their answers, in the order in which they were put."""
        self.writer.put(items)
        return self.answers_for(*items)

    def answers_for(self, *items: Item) -> list[Any]:
        wanted = {one.token for one in items}

        def found() -> dict[str, Any] | None:
            told = {i.token: o for report in list(self.reports) for i, o in report.answers}
            return told if wanted <= told.keys() else None

        told = eventually(found)
        assert told is not None
        return [told[one.token] for one in items]

    def abandon(self) -> None:
        """Look at it as the keeper does, until the call that hangs is given up."""

        def given_up() -> bool:
            self.writer.check_timeout()
            return bool(self.reports)

        eventually(given_up)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end, so that no thread is left hanging."""
    event = threading.Event()
    yield event
    event.set()


def begun_call(desk: Desk, gate: threading.Event, *items: Item) -> None:
    """Let the storage hang in a call with these."""
    begun = threading.Event()
    desk.shelf.on_save.append(memory.waits_for(gate, begun))
    desk.writer.put(items)
    assert begun.wait(10)


# ---- bulks ---------------------------------------------------------------------------------------


def test_what_is_put_is_stored_and_answered_for_each() -> None:
    desk = Desk()
    one, two = item("u1", 5), item("u2", 6)
    assert desk.answer(one, two) == [Stored("etag-5"), Stored("etag-6")]
    kept = desk.shelf.documents["u1"]
    assert (kept.body, kept.revision) == (one.text, 5)
    assert desk.shelf.opened == 1


def test_what_waits_meanwhile_goes_in_one_call_sorted_by_uuid(gate: threading.Event) -> None:
    desk = Desk()
    begun_call(desk, gate, item("first"))
    rest = [item(f"u{number}") for number in (7, 3, 9, 1)]
    for one in rest:
        desk.writer.put([one])
    gate.set()
    desk.answers_for(*rest)
    assert desk.shelf.uuids == [["first"], ["u1", "u3", "u7", "u9"]]


def test_of_one_uuid_the_highest_revision_goes_and_answers_for_all(gate: threading.Event) -> None:
    desk = Desk()
    begun_call(desk, gate, item("first"))
    older, newer = item("u1", 4), item("u1", 8)
    newer.claimed.token = "other"
    desk.writer.put([newer, older])
    gate.set()
    assert desk.answers_for(older, newer) == [Stored("etag-8"), Stored("etag-8")]
    assert [one.revision for one in desk.shelf.saves[1]] == [8]


def test_a_call_is_bounded_by_count_and_by_bytes(gate: threading.Event) -> None:
    desk = Desk()
    begun_call(desk, gate, item("first"))
    many = [item(f"u{number:04}") for number in range(writers.BATCH_ITEMS + 1)]
    large = [item(f"v{n}", text=b" " * (writers.BATCH_BYTES // 2)) for n in range(3)]
    huge = item("w", text=b" " * (writers.BATCH_BYTES * 2))
    desk.writer.put([*many, *large, huge])
    gate.set()
    desk.answers_for(*many, *large, huge)
    sizes = [len(call) for call in desk.shelf.saves]
    assert sizes == [1, 256, 2, 2, 1], (
        "256; the 257th and a large one; two large ones; the huge one"
    )


def test_a_storage_gets_the_parsed_document_and_its_own_etag() -> None:
    desk = Desk()
    one, two, three = item("u1"), item("u2"), item("u3")
    one.vcon = Vcon.parse(one.text)
    one.progress.etags[desk.writer.name] = "newer"
    one.claimed.etags[desk.writer.name] = "older"
    two.claimed.etags[desk.writer.name] = "older"
    three.claimed.etags["another"] = "not ours"
    desk.answer(one, two, three)
    [first, second, third] = desk.shelf.saves[0]
    assert first.parsed is one.vcon.view
    assert (first.etag, second.etag, third.etag) == ("newer", "older", None)
    assert second.parsed is None


def test_one_refused_document_harms_no_other() -> None:
    desk = Desk()
    desk.shelf.on_save.append(memory.refuses("u2"))
    answers = desk.answer(item("u1"), item("u2"), item("u3"))
    assert answers == [Stored(), Rejected("not wanted"), Stored()]
    assert desk.answer(item("u4")) == [Stored("etag-1")], "and the breaker is closed"


def test_one_that_has_to_wait_does_not_hold_back_the_others() -> None:
    desk = Desk()
    desk.shelf.on_save.append(memory.misses("u2"))
    answers = desk.answer(item("u1"), item("u2"))
    assert answers == [Stored(), Unavailable("no room")]
    assert isinstance(desk.answer(item("u3"))[0], Stored)


def test_a_writer_that_waits_keeps_nothing_of_what_it_has_stored() -> None:
    desk = Desk()
    one = item("u1")
    ghost = weakref.ref(one)
    desk.answer(one)
    desk.reports.clear()
    desk.shelf.saves.clear()
    del one

    def gone() -> bool:
        gc.collect()
        return ghost() is None

    eventually(gone, message="documents are large, and the next may not come for hours")


# ---- a storage that is away ----------------------------------------------------------------------


def test_a_broken_client_is_closed_and_its_items_come_back_later() -> None:
    desk = Desk()
    desk.shelf.on_save.append(memory.breaks())
    with capture_logs() as lines:
        [answer] = desk.answer(item("u1"))
    assert isinstance(answer, Unavailable)
    assert answer.reason == "ConnectionError: the connection is gone"
    assert answer.after_s is not None
    assert answer.after_s > 0.4
    assert (desk.shelf.opened, desk.shelf.closed) == (1, 1)
    assert [line["event"] for line in lines] == ["storage_away"]


def test_while_it_is_away_nobody_asks_it() -> None:
    desk = Desk()
    desk.shelf.on_save.append(memory.away("maintenance", after_s=30))
    desk.answer(item("u1"))
    [answer] = desk.answer(item("u2"))
    assert isinstance(answer, Unavailable)
    assert answer.reason == "maintenance"
    assert answer.after_s is not None
    assert 29 < answer.after_s < 50
    assert len(desk.shelf.saves) == 1
    assert desk.shelf.closed == 0, "it said so itself: its client is well"


def test_it_comes_back_by_one_probe_and_then_in_steps(gate: threading.Event) -> None:
    desk = Desk()
    desk.shelf.on_save.append(memory.breaks())
    desk.answer(item("u0"))
    items = [item(f"u{number:03}") for number in range(1, 30)]

    def stored() -> bool:
        desk.reports.clear()
        return all(isinstance(answer, Stored) for answer in desk.answer(*items))

    with capture_logs() as lines:
        eventually(stored)
    assert [len(call) for call in desk.shelf.saves] == [1, 1, 4, 16, 8]
    assert desk.shelf.opened == 2
    assert [line["event"] for line in lines] == ["storage_back"]


def test_one_that_cannot_be_opened_is_away_and_leaves_nothing_open() -> None:
    desk = Desk()
    desk.shelf.on_open += [memory.breaks(OSError("no such host")), memory.as_ever]
    [answer] = desk.answer(item("u1"))
    assert isinstance(answer, Unavailable)
    assert "no such host" in answer.reason
    assert (desk.shelf.opened, desk.shelf.closed) == (1, 1)
    assert desk.shelf.saves == []


@pytest.mark.parametrize(
    "answers", [(), (Stored(),), (Stored(), Stored(), Stored()), (Stored(), None), (Stored(), 1)]
)
def test_one_that_answers_nonsense_is_away(answers: tuple[Any, ...]) -> None:
    # An answer that was none had the item stored again, and again, without end.
    desk = Desk()
    desk.shelf.on_save.append(memory.answers(*answers))
    first, second = desk.answer(item("u1"), item("u2"))
    assert isinstance(first, Unavailable)
    assert isinstance(second, Unavailable)
    eventually(lambda: isinstance(desk.answer(item(unique("u")))[0], Stored))


# ---- a storage that hangs ------------------------------------------------------------------------


def test_a_call_that_hangs_is_given_up_and_its_client_replaced(gate: threading.Event) -> None:
    desk = Desk(timeout_s=0.05)
    one = item("u1")
    begun_call(desk, gate, one)
    waiting = item("u2")
    desk.writer.put([waiting])
    with capture_logs() as lines:
        desk.abandon()
    [answer] = desk.answers_for(one)
    assert isinstance(answer, Unavailable)
    assert "no answer for 0 s" in answer.reason
    assert isinstance(desk.answers_for(waiting)[0], Unavailable), "answered by the breaker"
    assert "storage_hangs" in [line["event"] for line in lines]
    eventually(lambda: isinstance(desk.answer(item(unique("u")))[0], Stored))
    assert desk.shelf.opened == 2


def test_a_call_within_the_timeout_is_left_alone(gate: threading.Event) -> None:
    desk = Desk()
    one = item("u1")
    begun_call(desk, gate, one)
    for _ in range(10):
        desk.writer.check_timeout()
    gate.set()
    assert desk.answers_for(one) == [Stored("etag-1")]
    assert not desk.writer.has_too_many_hung_calls


def test_what_an_abandoned_call_says_later_is_not_heard(gate: threading.Event) -> None:
    desk = Desk(timeout_s=0.05)
    one = item("u1")
    begun_call(desk, gate, one)
    desk.abandon()
    reports = len(desk.reports)
    with capture_logs() as lines:
        gate.set()
        eventually(lambda: desk.shelf.closed == 1, message="its client is closed at last")
    assert len(desk.reports) == reports
    assert lines == [], "it must not say that the storage is back: nobody has asked it again"
    [answer] = desk.answer(item("u2"))
    assert isinstance(answer, Unavailable), "the breaker is still open"


def test_an_abandoned_batch_does_not_go_on(gate: threading.Event) -> None:
    # A lane that came back went on with the rest of its batch beside its successor.
    desk = Desk(timeout_s=0.05)
    desk.shelf.on_save.append(memory.away(after_s=0.01))
    desk.answer(item("u0"))
    begun = threading.Event()
    probes = [item(f"u{number}") for number in range(1, 9)]

    def hanging() -> bool:
        desk.reports.clear()
        desk.shelf.on_save.clear()
        desk.shelf.on_save.append(memory.waits_for(gate, begun))
        desk.writer.put(probes)
        return bool(eventually(lambda: begun.is_set() or desk.reports)) and begun.is_set()

    eventually(hanging)
    desk.abandon()
    gate.set()
    eventually(lambda: desk.shelf.closed == 1)
    assert [len(call) for call in desk.shelf.saves] == [1, 1], "the probe, and nothing behind it"


def test_a_process_in_which_many_calls_hang_is_spent(gate: threading.Event) -> None:
    # Each of them is a thread and a client; a night of them would fill the process.
    desk = Desk(timeout_s=0.05, hung_most=1)
    begun_call(desk, gate, item("u1"))
    spent = [desk.writer.has_too_many_hung_calls]
    desk.abandon()
    spent.append(desk.writer.has_too_many_hung_calls)
    gate.set()
    assert spent == [False, True]
    eventually(lambda: not desk.writer.has_too_many_hung_calls, message="it came back after all")


# ---- look-ups ------------------------------------------------------------------------------------


def report_of(desk: Desk, one: Item) -> StorageReport:
    desk.writer.look_up(one)
    return eventually(
        lambda: next((r for r in desk.reports if r.looked_up is one), None)
    ) or StorageReport("", [])


def test_a_document_is_looked_up() -> None:
    desk = Desk()
    desk.answer(item("u1"))
    assert report_of(desk, item("u1")).found == document("u1")
    report = report_of(desk, item("u2"))
    assert (report.found, report.answers) == (None, [])


def test_a_look_up_in_a_storage_that_is_away_says_so_and_does_not_ask() -> None:
    desk = Desk()
    desk.shelf.on_get.append(memory.breaks())
    one, two = item("u1"), item("u2")
    [(_, answer)] = report_of(desk, one).answers
    assert isinstance(answer, Unavailable)
    [(_, answer)] = report_of(desk, two).answers
    assert isinstance(answer, Unavailable)
    assert desk.shelf.lookups == ["u1"]
    assert desk.shelf.closed == 1


def test_a_look_up_that_hangs_is_answered_as_a_look_up(gate: threading.Event) -> None:
    # It was answered as if the document had been stored: the item was never heard of again.
    desk = Desk(timeout_s=0.05)
    begun = threading.Event()
    desk.shelf.on_get.append(memory.waits_for(gate, begun))
    one = item("u1")
    desk.writer.look_up(one)
    assert begun.wait(10)
    desk.abandon()
    [report] = desk.reports
    assert report.looked_up is one
    [(_, answer)] = report.answers
    assert isinstance(answer, Unavailable)


def test_look_ups_and_documents_wait_for_one_another_in_order(gate: threading.Event) -> None:
    desk = Desk()
    begun_call(desk, gate, item("first"))
    looked, stored = item("u1"), item("u2")
    desk.writer.put([item("u0")])
    desk.writer.look_up(looked)
    desk.writer.put([stored])
    gate.set()
    desk.answers_for(stored)
    assert desk.shelf.uuids == [["first"], ["u0"], ["u2"]]
    assert any(report.looked_up is looked for report in desk.reports)
