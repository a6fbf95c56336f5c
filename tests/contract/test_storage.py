"""What every storage promises, tried on each kind with its real server.

The promises are conserver.testing's StorageContract, which is there for storages of others too.
"""

from __future__ import annotations

import json

import pytest

from conserver.testing.storages import StorageContract, is_stored, kept, save
from storage.contract import Document, Rejected
from tests import vcons
from tests.contract.places import KINDS, Place, document, place


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest) -> Place:
    """A new place of each kind in turn."""
    return place(request.param, request)


class TestStorages(StorageContract):
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


@pytest.mark.parametrize(
    "uuid", ["call:2025:7", "a@example.org+1=2", "v1.0_x-y", "A", "0" * 128, "urn:uuid:1234"]
)
def test_every_uuid_that_a_vcon_may_have(here: Place, uuid: str) -> None:
    """docs/vcon.md: up to 128 letters, digits and ._:@+=-; the form of a UUID is not needed."""
    given, later = document(1, uuid), document(2, uuid, said="later")
    with here.opened() as storage:
        assert all(map(is_stored, save(storage, given, document())))
        assert kept(storage, uuid) == given.data
        assert all(map(is_stored, save(storage, later)))
        assert kept(storage, uuid) == later.data
        assert storage.delete(uuid) is True
        assert storage.get(uuid) is None
