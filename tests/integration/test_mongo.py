"""storage.mongo: how a vCon lies in its collection. Its promises are in tests/contract."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from storage.contract import Rejected, Stored
from storage.mongo import Options, Storage
from tests.contract.places import MONGO_URL, document, one


@pytest.fixture
def options() -> Options:
    if MONGO_URL not in os.environ:
        pytest.skip(f"no package index has a MongoDB: name a server in {MONGO_URL}")
    return Options.model_validate(
        {
            "url": os.environ[MONGO_URL],
            "database": "conserver_test",
            "collection": f"vcons_{uuid4().hex}",
            "timeout_s": 10,
        }
    )


@pytest.fixture
def storage(options: Options) -> Iterator[Storage]:
    """An open storage."""
    with closing(Storage("mongo", options)) as made:
        made.open()
        yield made


@pytest.fixture
def collection(options: Options) -> Iterator[Any]:
    """The test's collection, deleted after it."""
    from pymongo import MongoClient

    client: MongoClient[dict[str, Any]] = MongoClient(options.url.get_secret_value())
    with client:
        found = client[options.database][options.collection]
        yield found
        found.drop()


def test_members_can_be_asked_for(storage: Storage, collection: Any) -> None:
    given = document(7, parties=[{"tel": "+12025550111"}, {"name": "Ada"}])
    assert one(storage, given) == Stored()
    found = collection.find_one({"parties.tel": "+12025550111"})
    assert found == {"_id": given.uuid, **given.data, "_conserver": {"revision": 7}}


def test_a_document_of_vcon_server_is_older_than_any(storage: Storage, collection: Any) -> None:
    given = document(0)
    collection.insert_one({"_id": given.uuid, "subject": "of vcon-server"})
    assert one(storage, given) == Stored()
    assert collection.find_one({"_id": given.uuid})["_conserver"] == {"revision": 0}


@pytest.mark.parametrize(
    "members",
    [{"_id": "x"}, {"_conserver": 1}, {"x": 2**63}, {"a\0b": 1}, {"x": "y" * 17_000_000}],
    ids=["_id", "_conserver", "large number", "NUL", "too large"],
)
def test_what_mongodb_cannot_hold(storage: Storage, members: dict[str, Any]) -> None:
    outcomes = storage.save_many([document(), document(**members), document()])
    assert [type(outcome) for outcome in outcomes] == [Stored, Rejected, Stored]
