"""What every storage does when its server is away, hangs, or dies in the middle of a word."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from storage.contract import (
    Document,
    Outcome,
    Storage,
    Stored,
    Unavailable,
    place_of,
    with_place,
)
from tests.contract.places import SERVED_KINDS, Place, document, place
from tests.helpers import TcpProxy, eventually

_SHORT_S = 3.0
"""Enough for a server on a busy machine, and so much shorter than what a client waits by itself."""
_PATIENT_S = 20.0


@pytest.fixture(params=SERVED_KINDS)
def here(request: pytest.FixtureRequest) -> Place:
    """A new place of each kind that has a server."""
    return place(request.param, request)


@contextmanager
def proxied(here: Place, patience_s: float = _PATIENT_S) -> Iterator[tuple[TcpProxy, Storage]]:
    """An open storage with a proxy before its server."""
    assert here.port is not None
    with TcpProxy(here.port) as proxy:
        with closing(here.make(_PATIENT_S, **here.at_port(proxy.port))) as first:
            assert all_stored(first, some(1))  # Its table or index is made, which may take long.
        storage = here.make(patience_s, **here.at_port(proxy.port))
        with closing(storage):
            eventually(lambda: opens(storage))
            yield proxy, storage


def attempt(storage: Storage, documents: list[Document]) -> list[Outcome]:
    """Saves; what is raised counts as unavailable, as it does for the writer."""
    try:
        return storage.save_many(documents)
    except Exception as error:  # noqa: BLE001 (the contract allows any)
        return [Unavailable(repr(error))] * len(documents)


def all_name_the_server(proxy: TcpProxy, place: str, outcomes: list[Outcome]) -> bool:
    """Whoever reads the log at night must see which server it was."""
    return all(
        isinstance(one, Unavailable) and str(proxy.port) in with_place(one.reason, place)
        for one in outcomes
    )


def all_stored(storage: Storage, documents: list[Document]) -> bool:
    """Saves after a reopening, as the writer does after a failure."""
    storage.open()
    return all(isinstance(outcome, Stored) for outcome in storage.save_many(documents))


def opens(storage: Storage) -> bool:
    """Whether it opens; on a busy machine a short patience may not be enough the first time."""
    try:
        storage.open()
    except Exception:  # noqa: BLE001 (the contract allows any)
        return False
    return True


def stored_again(storage: Storage, documents: list[Document]) -> bool:
    """Whether all are saved now, as the writer would try it again and again."""
    return opens(storage) and all(isinstance(one, Stored) for one in attempt(storage, documents))


def some(count: int) -> list[Document]:
    return sorted((document(number=n) for n in range(count)), key=lambda one: one.uuid)


def test_a_server_that_is_down_is_unavailable(here: Place) -> None:
    with proxied(here) as (proxy, storage):
        proxy.refuse()
        given = some(20)
        outcomes = attempt(storage, given)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes), outcomes
        assert all_name_the_server(proxy, place_of(storage), outcomes), outcomes
        proxy.start()
        assert all_stored(storage, given)


def test_nothing_is_said_to_be_missing_while_the_server_is_down(here: Place) -> None:
    """A None would be taken at its word: the document would be dead-lettered as missing."""
    with proxied(here) as (proxy, storage):
        given = some(1)
        assert all_stored(storage, given)
        proxy.refuse()
        calls: list[Callable[[], object]] = [
            lambda: storage.get(given[0].uuid),
            lambda: storage.delete(given[0].uuid),
            storage.ready,
        ]
        for call in calls:
            with pytest.raises(Exception):  # noqa: B017, PT011 (the contract allows any)
                call()


def test_opening_fails_while_the_server_is_down(here: Place) -> None:
    assert here.port is not None
    with TcpProxy(here.port) as proxy:
        proxy.refuse()
        storage = here.make(_PATIENT_S, **here.at_port(proxy.port))
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the contract allows any)
            storage.open()
        assert str(proxy.port) in with_place(str(caught.value), place_of(storage))
        storage.close()
        proxy.start()
        with closing(storage):
            assert all_stored(storage, some(2))


def test_a_server_that_hangs_is_unavailable_in_time(here: Place) -> None:
    with proxied(here, _SHORT_S) as (proxy, storage):
        eventually(lambda: stored_again(storage, some(2)))
        proxy.stall()
        given = some(20)
        began = time.monotonic()
        outcomes = attempt(storage, given)
        took_s = time.monotonic() - began
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes), outcomes
        assert took_s < _SHORT_S * 5
        assert all_name_the_server(proxy, place_of(storage), outcomes), outcomes
        storage.close()
        proxy.cut_all()
        proxy.flow()
        eventually(lambda: stored_again(storage, given))


def test_opening_fails_in_time_while_the_server_hangs(here: Place) -> None:
    assert here.port is not None
    with TcpProxy(here.port) as proxy:
        proxy.stall()
        storage = here.make(_SHORT_S, **here.at_port(proxy.port))
        began = time.monotonic()
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the contract allows any)
            storage.open()
        assert str(proxy.port) in with_place(str(caught.value), place_of(storage))
        assert time.monotonic() - began < _SHORT_S * 5
        storage.close()


def test_closing_ends_a_call_that_hangs_or_lets_it_run_out(here: Place) -> None:
    """The writer of a hanging storage is replaced: closing must not hang, too."""
    with proxied(here, _SHORT_S) as (proxy, storage):
        proxy.stall()
        began = time.monotonic()
        storage.close()
        assert time.monotonic() - began < _SHORT_S * 5


def test_a_write_whose_answer_was_lost_can_be_repeated(here: Place) -> None:
    with proxied(here) as (proxy, storage):
        given = some(6)
        proxy.cut_after(given[3].uuid.encode())
        attempt(storage, given)
        assert all_stored(storage, given)
        for one in given:
            assert storage.get(one.uuid) is not None


def test_a_write_that_never_arrived_can_be_repeated(here: Place) -> None:
    with proxied(here) as (proxy, storage):
        given = some(6)
        proxy.cut_before(given[3].uuid.encode())
        attempt(storage, given)
        assert all_stored(storage, given)
        for one in given:
            assert storage.get(one.uuid) is not None


def test_a_connection_that_was_cut_while_idle_costs_nothing(here: Place) -> None:
    """A server or a firewall closes what is idle: that is no outage, and parks nothing."""
    with proxied(here) as (proxy, storage):
        for revision in range(1, 4):
            given = [Document(one.uuid, one.body, revision) for one in some(3)]
            assert all(isinstance(outcome, Stored) for outcome in storage.save_many(given))
            proxy.cut_all()
            assert storage.get(given[0].uuid) is not None
            proxy.cut_all()


def test_a_server_that_stays_away_is_not_asked_for_ever(here: Place) -> None:
    with proxied(here) as (proxy, storage):
        assert all_stored(storage, some(1))
        proxy.refuse()
        began = time.monotonic()
        assert all(isinstance(outcome, Unavailable) for outcome in attempt(storage, some(3)))
        assert time.monotonic() - began < _PATIENT_S
