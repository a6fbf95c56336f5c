"""What every storage promises, tried on each kind with its real server.

The promises are conserver.testing's StorageContract, which is there for storages of others too.
"""

from __future__ import annotations

import json

import pytest

from conserver.testing.searching import SearchContract
from conserver.testing.storage_places import is_stored, kept, save
from conserver.testing.storages import StorageContract
from storage.contract import Document, Rejected
from tests import vcons
from tests.contract.places import KINDS, Place, document, place


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest) -> Place:
    """A new place of each kind in turn."""
    return place(request.param, request)


class TestStorages(StorageContract, SearchContract):
    """The contract, in a new place of each kind in turn."""

    @pytest.fixture(params=KINDS)
    def here(self, request: pytest.FixtureRequest) -> Place:
        return place(request.param, request)


@pytest.mark.parametrize("shape", vcons.SHAPES)
def test_every_shape_is_kept_as_it_is(here: Place, shape: str) -> None:
    data = vcons.make(shape, seed=3)
    uuid = data.get("uuid") or document().uuid
    given = Document(uuid, json.dumps(data, indent=1, ensure_ascii=False).encode(), 7)
    with here.opened() as storage:
        (outcome,) = save(storage, given)
        if shape in here.rejects:
            assert isinstance(outcome, Rejected)
            assert outcome.reason
            assert storage.get(uuid) is None
            return
        assert is_stored(outcome)
        if shape in here.keeps_part_of:
            assert storage.get(uuid) is None
        elif here.keeps_bytes:
            assert storage.get(uuid) == given.body
        else:
            assert kept(storage, uuid) == data
