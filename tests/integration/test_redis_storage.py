"""storage.redis on a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoScriptError
from servers import Redis as Server

from storage.contract import Stored, Unavailable
from storage.redis import Options, Storage
from tests.conftest import Private
from tests.contract.places import document, one, opening

Open = Callable[..., Storage]


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    """A client, to look at what is there."""
    with Redis.from_url(redis_url) as made:
        yield made


@pytest.fixture
def opened(redis_url: str) -> Iterator[Open]:
    """Makes open storages."""

    def make(**options: Any) -> Storage:
        given = {"redis_url": redis_url, "timeout_s": 30, **options}
        return Storage("redis", Options.model_validate(given))

    with opening(make) as opened:
        yield opened


def test_the_keys_are_those_of_vcon_server(opened: Open, client: Redis) -> None:
    given = document(17)
    assert one(opened(), given) == Stored()
    key = f"vcon_storage:{given.uuid}"
    assert client.get(key) == given.body
    assert client.get(f"vcon_storage:revision:{{{key}}}") == b"17"
    lives_s = client.ttl(key)
    assert isinstance(lives_s, int)
    assert 604_700 < lives_s <= 604_800


def test_a_vcon_can_be_kept_for_good(opened: Open, client: Redis) -> None:
    given = document()
    one(opened(expires=0, prefix="for good"), given)
    assert client.ttl(f"for good:{given.uuid}") == -1


def test_a_document_of_vcon_server_is_older_than_any(opened: Open, client: Redis) -> None:
    given = document(0)
    client.set(f"vcon_storage:{given.uuid}", b'{"of": "vcon-server"}')
    storage = opened()
    assert storage.get(given.uuid) == b'{"of": "vcon-server"}'
    assert one(storage, given) == Stored()
    assert storage.get(given.uuid) == given.body


def test_a_document_that_was_evicted_comes_back(opened: Open, client: Redis) -> None:
    given = document(5)
    storage = opened()
    one(storage, given)
    client.delete(f"vcon_storage:{given.uuid}")
    assert one(storage, document(4, given.uuid)) == Stored()
    assert storage.get(given.uuid) is not None


def test_a_key_of_another_type_harms_no_neighbour(opened: Open, client: Redis) -> None:
    odd, good = document(), document()
    client.lpush(f"vcon_storage:revision:{{vcon_storage:{odd.uuid}}}", "a list")
    outcomes = opened().save_many([odd, good])
    assert isinstance(outcomes[0], Unavailable)
    assert "WRONGTYPE" in outcomes[0].reason
    assert outcomes[1] == Stored()


def test_a_flushed_script_is_given_back_by_opening_again(opened: Open, client: Redis) -> None:
    storage = opened()
    client.script_flush()
    with pytest.raises(NoScriptError):
        storage.save_many([document()])
    storage.open()
    assert one(storage, document()) == Stored()


def test_a_full_redis_is_unavailable(private: Private) -> None:
    server = private(Server({"maxmemory": "2mb", "maxmemory-policy": "noeviction"}))
    options = Options.model_validate({"redis_url": server.url, "timeout_s": 30})
    with closing(Storage("redis", options)) as storage:
        storage.open()
        outcomes = storage.save_many([document(said="x" * 200_000) for _ in range(20)])
        refused = [outcome for outcome in outcomes if not isinstance(outcome, Stored)]
        assert refused
        assert all(isinstance(outcome, Unavailable) for outcome in refused)
