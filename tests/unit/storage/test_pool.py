"""storage.pool: documents one by one from several threads."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from storage.contract import Document, Outcome, Rejected, Stored, Unavailable
from storage.pool import Pool

pytestmark = pytest.mark.real_time

BATCH = [Document(f"{number:03d}", b"{}", 1) for number in range(40)]


def test_every_document_gets_its_own_outcome() -> None:
    def save(document: Document, deadline: float) -> Outcome:
        assert deadline > time.monotonic()
        return Rejected("odd") if int(document.uuid) % 2 else Stored(document.uuid)

    with closing(Pool("test", 4, (OSError,))) as pool:
        for _ in range(3):
            outcomes = pool.run(BATCH, save, 60)
            assert outcomes[::2] == [Stored(one.uuid) for one in BATCH[::2]]
            assert outcomes[1::2] == [Rejected("odd")] * 20
        assert pool.run([], save, 60) == []


def test_a_single_document_is_never_handed_over() -> None:
    seen: list[str] = []

    def save(document: Document, deadline: float) -> Outcome:
        seen.append(threading.current_thread().name)
        return Stored()

    with closing(Pool("test", 4, (OSError,))) as pool:
        pool.run(BATCH[:1], save, 60)
    assert seen == [threading.current_thread().name]


def test_where_requests_wait_they_wait_together() -> None:
    """As many as allowed are under way at the same time."""
    together = threading.Barrier(4)

    def save(document: Document, deadline: float) -> Outcome:
        together.wait(timeout=50)
        return Stored()

    with closing(Pool("test", 4, (OSError,))) as pool:
        assert pool.run(BATCH[:4], save, 60) == [Stored()] * 4


def test_where_requests_do_not_wait_nobody_helps() -> None:
    seen: set[str] = set()

    def save(document: Document, deadline: float) -> Outcome:
        seen.add(threading.current_thread().name)
        return Stored()

    with closing(Pool("test", 8, (OSError,))) as pool:
        pool.run(BATCH, save, 60)
        seen.clear()
        pool.run(BATCH, save, 60)
    assert seen == {threading.current_thread().name}


def test_one_broken_connection_is_one_documents_bad_luck() -> None:
    def save(document: Document, deadline: float) -> Outcome:
        if document.uuid == "007":
            raise ConnectionResetError("cut")
        return Stored()

    with closing(Pool("test", 4, (OSError,))) as pool:
        outcomes = pool.run(BATCH, save, 60)
    assert outcomes.pop(7) == Unavailable("ConnectionResetError: cut")
    assert outcomes == [Stored()] * 39


def test_after_a_few_the_rest_is_not_tried() -> None:
    tried: list[str] = []

    def save(document: Document, deadline: float) -> Outcome:
        tried.append(document.uuid)
        raise TimeoutError("nobody there")

    with closing(Pool("test", 2, (OSError,))) as pool:
        outcomes = pool.run(BATCH, save, 60)
    assert outcomes == [Unavailable("TimeoutError: nobody there")] * 40
    assert len(tried) <= 4


def test_any_other_exception_is_the_callers() -> None:
    def save(document: Document, deadline: float) -> Outcome:
        raise LookupError("a fault in the storage")

    with (
        closing(Pool("test", 2, (OSError,))) as pool,
        pytest.raises(LookupError, match="a fault in the storage"),
    ):
        pool.run(BATCH, save, 60)
