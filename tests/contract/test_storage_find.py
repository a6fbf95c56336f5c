"""Storages with a language for queries: what one means is found page by page, each vCon once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conserver.testing.storage_places import make_document, save
from storage.contract import Findable, Finds
from tests.contract.places import Place, place
from tests.helpers import eventually

QUERIES: dict[str, Any] = {
    "postgres": "subject LIKE 'wanted%' AND created_at < now()",
    "sqlite": "subject LIKE 'wanted%' AND created_at < datetime('now')",
    "elasticsearch": {"match_phrase": {"subject": "wanted"}},
}
WRONG: dict[str, list[Any]] = {
    "postgres": [{"term": {}}, "subject = = 'x'", "1); DROP TABLE vcons; --"],
    "sqlite": [{"term": {}}, "subject = = 'x'", "1); DROP TABLE vcons; --"],
    "elasticsearch": ["subject = 'x'", {"no_such_query": {}}],
}


@pytest.fixture(params=sorted(QUERIES))
def here(request: pytest.FixtureRequest) -> Place:
    """A place of each kind that finds."""
    return place(request.param, request)


@pytest.fixture
def opened(here: Place) -> Iterator[Any]:
    """An open storage in it."""
    with here.opened() as storage:
        assert isinstance(storage, Findable)
        yield storage


def pages(storage: Any, query: Any, limit: int) -> list[Finds]:
    """All pages of a query."""
    found = [storage.find(query, limit)]
    while found[-1].cursor:
        found.append(storage.find(query, limit, found[-1].cursor))
    return found


def test_what_a_query_means_is_found_each_once(here: Place, opened: Any) -> None:
    query = QUERIES[here.kind]
    wanted = [make_document(subject=f"wanted {number}") for number in range(7)]
    save(opened, *wanted, *[make_document(subject="another") for _ in range(3)])
    # An index shows what is stored after a while.
    assert eventually(lambda: len(opened.find(query, 1000).uuids) == 7)
    found = pages(opened, query, 3)
    assert [len(page.uuids) for page in found] == [3, 3, 1]
    uuids = [uuid for page in found for uuid in page.uuids]
    assert sorted(uuids) == sorted(one.uuid for one in wanted)
    assert pages(opened, query, 7)[0].cursor == ""


def test_nothing_is_found_where_nothing_is_meant(here: Place, opened: Any) -> None:
    save(opened, make_document(subject="another"))
    assert opened.find(QUERIES[here.kind], 10) == Finds([])


def test_a_wrong_query_is_refused_and_harms_nothing(here: Place, opened: Any) -> None:
    one = make_document(subject="wanted")
    save(opened, one)
    for query in WRONG[here.kind]:
        with pytest.raises(Exception, match=r".+"):
            opened.find(query, 10)
    opened.close()
    opened.open()
    assert opened.get(one.uuid) is not None


def test_a_cursor_of_another_storage_is_refused(here: Place, opened: Any) -> None:
    for cursor in ("x", "WyJhIiwgImIiXQ"):
        with pytest.raises(ValueError, match="cursor"):
            opened.find(QUERIES[here.kind], 10, cursor)
