"""StoragePlace: a storage's module and options for an empty place; and documents to save there.

The tests in storages.py and searching.py use it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from conserver.config.model import StorageConfig
from conserver.plugins.loader import load_storage
from storage.contract import Document, Storage, Stored


@dataclass(kw_only=True)
class StoragePlace:
    """A storage with an empty place of its own (a folder, table, index or bucket).

    Attributes:
        module: the storage's module, as in a configuration.
        options: the storage's options, which lead to the place.
        keeps_bytes: whether `get` returns exactly the bytes that were saved, not only equal JSON.
        unacceptable: makes a document that the storage will never take; None if there is none.
        search_options: additional options with which the storage can be searched.
    """

    module: str
    options: Mapping[str, Any]
    keeps_bytes: bool = False
    unacceptable: Callable[[], Document | None] = field(default=lambda: None)
    search_options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, **options: Any) -> Storage:
        """A storage that is not open yet. `options` override the place's options."""
        config = StorageConfig(module=self.module, options={**self.options, **options})
        loaded = load_storage("tested", config)
        loaded.prepare()
        return loaded.make()

    @contextmanager
    def opened(self, **options: Any) -> Iterator[Storage]:
        """An open storage, closed at the end."""
        with closing(self.make(**options)) as storage:
            storage.open()
            yield storage


def make_document(revision: int = 1, uuid: str | None = None, **members: Any) -> Document:
    """A small vCon, as a Document."""
    uuid = uuid or str(uuid4())
    data = {"uuid": uuid, "created_at": "2025-03-04T05:06:07.891+02:00", **members}
    return Document(uuid, json.dumps(data).encode(), revision)


def not_json() -> Document:
    """A Document that is not JSON."""
    return Document(str(uuid4()), b'{"uuid": 1', 1)


def save(storage: Storage, *documents: Document) -> list[object]:
    """Save documents as a worker does, sorted by uuid. Returns the outcomes in the given order."""
    order = sorted(range(len(documents)), key=lambda number: documents[number].uuid)
    outcomes = storage.save_many([documents[number] for number in order])
    assert len(outcomes) == len(documents), "there is an outcome for each document"
    return [outcomes[order.index(number)] for number in range(len(documents))]


def kept(storage: Storage, uuid: str) -> object:
    """The vCon that the storage returns, parsed; None if it has none."""
    body = storage.get(uuid)
    return None if body is None else orjson.loads(body)


def is_stored(outcome: object, superseded: bool = False) -> bool:
    """Whether an outcome is Stored, with or without `superseded`."""
    return isinstance(outcome, Stored) and outcome.superseded == superseded
