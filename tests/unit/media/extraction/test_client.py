"""A document through page readers that crash, hang and take too much memory."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from conserver.errors import Cancelled, Rejected, Retry
from conserver.media.extraction import client
from conserver.media.extraction.client import Following
from conserver.media.extraction.pages import Limits
from tests.helpers import eventually
from tests.unit.media.extraction.readers import StagedReaders, staged, staged_readers, texts

LIMITS = Limits(page_timeout_s=20)
LONG_S = 30


@pytest.fixture(scope="module")
def readers() -> Iterator[StagedReaders]:
    with staged_readers() as found:
        yield found


def test_pages_come_in_their_order_and_are_counted(readers: StagedReaders) -> None:
    shown: list[tuple[int, int]] = []
    following = Following(progress=lambda done, total: shown.append((done, total)))
    found = client.read(staged(*"abcdefg"), LIMITS, following, readers)
    assert texts(found.pages) == list("abcdefg")
    assert (found.kind, found.language) == ("pdf", "en")
    assert shown == [(number, 7) for number in range(8)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("crash", "has ended 2 page readers"),
        ("greedy", "more memory than a page reader has (1024 MiB)"),
        ("damaged", "the page is damaged"),
    ],
)
def test_a_bad_page_costs_that_page_alone(readers: StagedReaders, fault: str, reason: str) -> None:
    failed: list[tuple[int, str]] = []
    following = Following(failed=lambda page, why: failed.append((page, why)))
    found = client.read(staged("a", fault, "c", "d"), LIMITS, following, readers)
    assert texts(found.pages) == ["a", "", "c", "d"]
    assert reason in found.pages[1].error
    assert failed == [(2, found.pages[1].error)]


@pytest.mark.real_time
@pytest.mark.parametrize("fault", ["hang", "spin"])
def test_a_page_without_end_is_killed_by_the_kernel(readers: StagedReaders, fault: str) -> None:
    limits = Limits(page_timeout_s=1)
    found = client.read(staged("a", fault), limits, Following(), readers)
    assert texts(found.pages) == ["a", ""]
    assert "longer than page_timeout_s (1 s)" in found.pages[1].error


def test_a_document_of_which_no_page_can_be_read_is_refused(readers: StagedReaders) -> None:
    with pytest.raises(Rejected, match=r"no page could be read; page 1: the page is damaged"):
        client.read(staged("damaged", "damaged"), LIMITS, Following(), readers)


def test_a_document_that_crashes_whoever_opens_it_is_refused(readers: StagedReaders) -> None:
    with pytest.raises(Rejected, match=r"cannot be opened: it has ended 2 page readers"):
        client.read(staged("unopenable"), LIMITS, Following(), readers)


def test_a_machine_that_cannot_read_is_no_fault_of_the_document(readers: StagedReaders) -> None:
    with pytest.raises(Retry, match="OCR models cannot be loaded"):
        client.read(staged("a", "away"), LIMITS, Following(), readers)


def test_what_was_kept_is_not_read_again(readers: StagedReaders) -> None:
    kept: list[dict[str, Any]] = []
    following = Following(keep=kept.append, keep_pages=2, keep_every_s=0)
    client.read(staged(*"abcde"), LIMITS, following, readers)
    last = kept[-1]
    assert 2 <= len(last["pages"]) < 5
    for page in last["pages"].values():
        page["text"] += ", kept"
    shown: list[int] = []
    again = Following(kept=last, progress=lambda done, _: shown.append(done))
    found = client.read(staged(*"abcde"), LIMITS, again, readers)
    wanted = [
        f"{text}, kept" if str(n) in last["pages"] else text for n, text in enumerate("abcde")
    ]
    assert texts(found.pages) == wanted
    assert shown == list(range(len(last["pages"]), 6))


def test_what_was_kept_of_another_document_is_not_used(readers: StagedReaders) -> None:
    kept: list[dict[str, Any]] = []
    following = Following(keep=kept.append, keep_pages=1, keep_every_s=0)
    client.read(staged(*"abc"), LIMITS, following, readers)
    found = client.read(staged(*"xyz"), LIMITS, Following(kept=kept[-1]), readers)
    assert texts(found.pages) == ["x", "y", "z"]


def test_a_cancelled_document_ends_between_two_pages(readers: StagedReaders) -> None:
    def pulse() -> None:
        if shown and shown[-1] >= 2:
            raise Cancelled("an operator said so")

    shown: list[int] = []
    following = Following(pulse=pulse, progress=lambda done, _: shown.append(done))
    with pytest.raises(Cancelled):
        client.read(staged(*"abcdefghij"), LIMITS, following, readers)
    assert shown[-1] < 10
    assert texts(client.read(staged("next"), LIMITS, Following(), readers).pages) == ["next"]


def test_two_documents_at_once_share_the_readers() -> None:
    first_pages = {"x": threading.Event(), "y": threading.Event()}
    met: list[bool] = []

    def read(shared: StagedReaders, name: str, other: str) -> None:
        def progress(done: int, _: int) -> None:
            if done == 1:  # The other one gets a page while this one is in the middle of its own.
                first_pages[name].set()
                met.append(first_pages[other].wait(LONG_S))

        client.read(staged(*[name] * 20), LIMITS, Following(progress=progress), shared)

    with staged_readers(1) as readers:
        threads = [threading.Thread(target=read, args=(readers, *pair)) for pair in ("xy", "yx")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert readers.started == 1
    assert met == [True, True], "neither waited for the other's end"


def test_a_reader_that_is_killed_in_the_middle_costs_nothing() -> None:
    """Its page is sent again, to another one."""
    with staged_readers(1) as readers:

        def progress(done: int, _total: int) -> None:
            if done == 2 and not killed:
                killed.append(readers.processes[0].pid or 0)
                os.kill(killed[0], signal.SIGKILL)

        killed: list[int] = []
        following = Following(progress=progress)
        found = client.read(staged(*"abcdef"), LIMITS, following, readers)
    assert texts(found.pages) == list("abcdef")
    assert readers.started == 2


def test_readers_end_with_whoever_started_them() -> None:
    with staged_readers(2) as readers:
        readers.ensure()
        processes = list(readers.processes)
        client.read(staged("a"), LIMITS, Following(), readers)
        readers._lifeline.close()
        readers._theirs.close()
        eventually(lambda: not any(process.is_alive() for process in processes))
