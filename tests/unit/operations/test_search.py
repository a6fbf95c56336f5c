"""operations.search: which storages can search, and what is told where one does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conserver.config.model import Config
from conserver.errors import InvalidArgumentError, OperationError
from conserver.operations.documents import StorageReader
from conserver.operations.search import search, storages
from conserver.testing.searching import make_call
from storage.sqlite import Options, Storage


def reader_of(**named: dict[str, Any]) -> StorageReader:
    return StorageReader(Config.model_validate({"storages": named, "links": {}, "chains": {}}))


def sqlite(path: Path) -> dict[str, Any]:
    return {"module": "storage.sqlite", "options": {"path": str(path)}}


def away(**options: Any) -> dict[str, Any]:
    """A PostgreSQL on a port that nobody listens on."""
    return {"module": "storage.postgres", "options": {"port": 9, "timeout_s": 2, **options}}


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A database with two calls about a parcel."""
    storage = Storage("filled", Options(path=tmp_path / "vcons.db"))
    storage.open()
    storage.save_many([make_call("a parcel", subject=subject) for subject in ("one", "two")])
    storage.close()
    return tmp_path / "vcons.db"


def test_which_storages_can_search(tmp_path: Path) -> None:
    files = {"module": "storage.file", "options": {"path": str(tmp_path)}}
    with reader_of(files=files, off=away(), on=away(search=True), lite=sqlite(tmp_path)) as reader:
        assert storages(reader) == ["on", "lite"]


def test_the_first_that_answers_is_asked_and_then_page_by_page(filled: Path) -> None:
    with reader_of(down=away(search=True), lite=sqlite(filled)) as reader:
        first = search(reader, "parcel", limit=1)
        assert (first.storage, list(first.silent)) == ("lite", ["down"])
        second = search(reader, "parcel", storage="lite", limit=1, cursor=first.cursor)
        assert not second.cursor
        assert [hit.subject for hit in [*first.hits, *second.hits]] == ["two", "one"]


def test_what_cannot_be_asked_says_why(filled: Path, tmp_path: Path) -> None:
    files = {"module": "storage.file", "options": {"path": str(tmp_path)}}
    with reader_of(files=files) as reader, pytest.raises(OperationError) as nobody:
        search(reader, "parcel")
    assert nobody.value.kind == "not_found"
    with reader_of(files=files, lite=sqlite(filled)) as reader:
        with pytest.raises(InvalidArgumentError, match="`files` cannot search; these can: lite"):
            search(reader, "parcel", storage="files")
        with pytest.raises(InvalidArgumentError, match="cursor"):
            search(reader, "parcel", cursor="zebra")
    with reader_of(down=away(search=True)) as reader, pytest.raises(OperationError) as silent:
        search(reader, "parcel")
    assert silent.value.kind == "unavailable"
    assert "down:" in str(silent.value)
