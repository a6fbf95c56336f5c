"""SearchContract: the tests of a storage that can be searched (storage.contract.Searchable).

    class TestMyIndex(StorageContract, SearchContract):
        module = "my_index"

It uses the fixture `here` of StorageContract. A storage that cannot search skips these tests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from conserver.testing.storage_places import StoragePlace, make_document, save
from storage.contract import Document, Hit, Hits, Searchable

_WAIT_S = 20.0
_LOOK_S = 0.05


def make_call(words: str, revision: int = 1, uuid: str | None = None, **members: Any) -> Document:
    """A vCon whose transcript has these words."""
    analysis = [{"type": "transcript", "dialog": 0, "body": {"text": words}}]
    return make_document(revision, uuid, **{"analysis": analysis, **members})


def until_found(storage: Any, text: str, count: int, limit: int = 10) -> Hits:
    """Searches until there are `count` hits, because an index may show a vCon seconds later."""
    until_s = time.monotonic() + _WAIT_S
    while True:
        found: Hits = storage.search(text, limit)
        if len(found.hits) == count or time.monotonic() > until_s:
            assert len(found.hits) == count, found
            return found
        time.sleep(_LOOK_S)


def lit(hit: Hit) -> list[str]:
    """The marked words of a snippet, in lower case."""
    return [hit.snippet[begin:end].lower() for begin, end in hit.marks]


class SearchContract:
    """Derive from it and from StorageContract."""

    @pytest.fixture
    def searched(self, here: StoragePlace) -> Iterator[Any]:
        """An open storage that can search."""
        made = here.make(**here.search_options)
        if not isinstance(made, Searchable) or not made.searches:
            pytest.skip("this storage cannot search")
        with here.opened(**here.search_options) as storage:
            yield storage

    def test_a_vcon_is_found_by_what_was_said(self, searched: Any) -> None:
        given = make_call("good morning, where is my parcel", subject="A question")
        save(searched, given, make_call("nothing of that"))
        [hit] = until_found(searched, "PARCEL", 1).hits
        assert hit.uuid == given.uuid
        assert hit.created_at == given.data["created_at"]
        assert hit.subject == "A question"
        assert lit(hit) == ["parcel"]
        assert "where is my parcel" in hit.snippet

    def test_all_words_must_be_there_and_phrases_as_they_are(self, searched: Any) -> None:
        parties = [{"name": "Ada Berg", "tel": "+12025550111"}]
        given = make_call("the parcel came too late", parties=parties)
        save(searched, given)
        until_found(searched, "parcel", 1)
        for text in ("late parcel", '"came too late"', "berg parcel", '"ada berg" "the parcel"'):
            assert [hit.uuid for hit in searched.search(text, 10).hits] == [given.uuid], text
        for text in ("parcel early", '"late parcel"', '"ada parcel"', "zebra"):
            assert not searched.search(text, 10).hits, text

    def test_the_newest_come_first_page_by_page(self, searched: Any) -> None:
        days = [f"2025-03-{day:02d}T05:06:07Z" for day in range(1, 8)]
        calls = [make_call("a refund, please", created_at=day) for day in days]
        for call in calls:
            save(searched, call)
        until_found(searched, "refund", 7)
        seen: list[str] = []
        cursor = ""
        for most in (3, 3, 1):
            page = searched.search("refund", 3, cursor)
            assert len(page.hits) == most
            seen += [hit.uuid for hit in page.hits]
            cursor = page.cursor
        assert not cursor
        assert seen == [call.uuid for call in reversed(calls)]

    def test_the_index_follows_the_documents(self, searched: Any) -> None:
        first = make_call("it was about a parcel")
        later = make_call("it was about a refund", 2, first.uuid)
        save(searched, first)
        until_found(searched, "parcel", 1)
        save(searched, later)
        until_found(searched, "refund", 1)
        until_found(searched, "parcel", 0)
        searched.delete(first.uuid)
        until_found(searched, "refund", 0)

    @pytest.mark.parametrize(
        "text",
        [
            "", " ", "?!", '"', '""', "'", "a\0b", "zebra)", "NOT", "zebra AND (", "x:y", "*", "\\",
            "%",
        ],
    )  # fmt: skip
    def test_every_text_is_a_question(self, searched: Any, text: str) -> None:
        save(searched, make_call("nothing of that"))
        assert not searched.search(text, 10).hits

    def test_a_cursor_of_something_else(self, searched: Any) -> None:
        for cursor in ("zebra", "W10", "eyJhIjoxfQ", "é"):
            with pytest.raises(ValueError, match="cursor"):
                searched.search("zebra", 10, cursor)

    def test_a_document_that_holds_nothing_or_very_much(self, searched: Any) -> None:
        many = " ".join(f"word{number}" for number in range(100_000))
        given = make_call(f"zebra {many}")
        outcomes = save(searched, given, make_document(), make_document(payload="", signatures=[]))
        assert all(outcomes)
        assert [hit.uuid for hit in until_found(searched, "zebra", 1).hits] == [given.uuid]
