"""One vCon by its uuid: from Redis, from storages, and from storages that fail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conserver.config.model import Config
from conserver.errors import InvalidArgumentError
from conserver.operations import documents
from conserver.operations.documents import StorageReader
from conserver.queue import keys
from storage.contract import Document
from storage.file import Options, Storage
from tests.operators import vcon


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a file storage with the vCon u-1."""
    storage = Storage("files", Options(path=tmp_path / "kept"))
    storage.open()
    storage.save_many([Document("u-1", vcon("u-1"), 1)])
    storage.close()
    return tmp_path / "kept"


def config_of(folder: Path) -> Config:
    """A file storage, and before it one whose module does not exist."""
    return Config.model_validate(
        {
            "storages": {
                "away": {"module": "storage.nothing", "options": {}},
                "files": {"module": "storage.file", "options": {"path": str(folder)}},
            }
        }
    )


def test_redis_goes_first(server: Any, folder: Path) -> None:
    """And the storages are not asked."""
    server.set(keys.document("u-1"), "{}")
    with StorageReader(config_of(folder)) as storages:
        found = documents.get(server, storages, "u-1")
    assert (found.text, found.source, found.silent) == (b"{}", "redis", {})


def test_the_first_storage_that_has_it(server: Any, folder: Path) -> None:
    """One that cannot be asked is named with its error."""
    with StorageReader(config_of(folder)) as storages:
        found = documents.get(server, storages, "u-1")
        assert (found.text, found.source) == (vcon("u-1"), "files")
        assert "no module `storage.nothing`" in found.silent["away"]
        nothing = documents.get(server, storages, "u-2")
        assert (nothing.text, nothing.source, list(nothing.silent)) == (None, "", ["away"])
        assert documents.get(None, storages, "u-1", "files").silent == {}
        assert documents.get(server, storages, "u-1", "redis").text is None


def test_any_thread_may_read(folder: Path) -> None:
    """Each storage is opened once."""
    with StorageReader(config_of(folder)) as storages, ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda _: storages.get("files", "u-1"), range(20)))
    assert set(texts) == {vcon("u-1")}


def test_a_key_that_is_no_document(server: Any) -> None:
    """Its type is said."""
    server.hset(keys.document("u-1"), "a", "b")
    found = documents.read(server, "u-1")
    assert (found.text, found.kind, found.strange) == (None, "hash", True)
    assert not documents.read(server, "u-2").strange


def test_a_source_that_does_not_exist(folder: Path) -> None:
    """The likeliest one is named."""
    config = config_of(folder)
    with pytest.raises(InvalidArgumentError, match=r"no storage `file` in c.yml .*`files`"):
        documents.check_source(config, "file", "c.yml")
    for source in ("", "redis", "files"):
        documents.check_source(config, source, "c.yml")
