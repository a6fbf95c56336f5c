"""What vcon-server's index costs Redis: for a document that is posted, and to index all of them."""

from __future__ import annotations

import json

import pytest
import redis

from conserver.config import settings
from conserver.operations import index
from conserver.vcon.document import Vcon
from tests.guards.counting import CountingProxy, commands, figure

DOCUMENTS = 1200


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    """An empty Redis."""
    return redis.Redis.from_url(redis_url)


def example(number: int) -> bytes:
    """A vCon with two parties."""
    parties = [{"tel": f"+49301234{number}", "name": "Ada"}, {"mailto": f"{number}@example.com"}]
    return json.dumps({"vcon": "0.4.0", "uuid": f"u{number}", "parties": parties}).encode()


def test_indexing_all_documents_is_many_small_commands(client: redis.Redis) -> None:
    """KEYS, which stops Redis for all others, is none of them."""
    with client:
        client.mset({f"vcon:u{number}": example(number) for number in range(DOCUMENTS)})
        with commands(client) as counted:
            assert index.rebuild(client, settings.load({})) == DOCUMENTS
        figure("indexing all", counted.inside / DOCUMENTS, "commands per document")
        assert counted.of("keys") == 0
        assert counted.of("scan") <= DOCUMENTS // 100
        assert counted.inside / DOCUMENTS <= 30


def test_a_document_that_is_posted_costs_its_index_two_round_trips(redis_url: str) -> None:
    found, defaults = Vcon.parse(example(1)), settings.load({})
    with CountingProxy(redis_url) as proxy, redis.Redis.from_url(proxy.url) as client:
        index.add(client, defaults, found)
        proxy.reset()
        index.add(client, defaults, found)
        figure("the index of one document", proxy.turns, "round trips")
        assert proxy.turns <= 2
