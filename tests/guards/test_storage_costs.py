"""What saving documents costs: round trips per bulk, requests per document.

A proxy in front of each real server counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from conserver.config.model import StorageConfig
from conserver.plugins.loader import load_storage
from storage.contract import Document, Outcome, Storage, Stored
from tests.clients import S3Access
from tests.guards.counting import CountingProxy, figure
from tests.vcons import several

BATCH = 32


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes storages and proxies, the last one first."""
    with ExitStack() as made:
        yield made


def opened(stack: ExitStack, module: str, **options: Any) -> Storage:
    """One of our storages, opened."""
    config = StorageConfig(module=f"storage.{module}", options=options)
    storage = load_storage("it", config).make()
    storage.open()
    stack.callback(storage.close)
    return storage


def documents(revision: int, seed: int = 0) -> list[Document]:
    return sorted(
        (Document(uuid, body, revision) for uuid, body in several(BATCH, seed)),
        key=lambda document: document.uuid,
    )


def again(before: list[Document], outcomes: list[Outcome], revision: int) -> list[Document]:
    """The same documents with a later revision and the ETags of the last save."""
    stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    assert len(stored) == len(before)
    return [
        Document(one.uuid, one.body, revision, outcome.etag)
        for one, outcome in zip(before, stored, strict=True)
    ]


def cost(storage: Storage, proxy: CountingProxy, batch: list[Document]) -> list[Outcome]:
    """Save a batch, with the proxy's counters starting at zero."""
    proxy.reset()
    outcomes = storage.save_many(batch)
    assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes
    return outcomes


def test_postgres_takes_a_bulk_in_few_round_trips(
    postgres_url: str, postgres_table: str, stack: ExitStack
) -> None:
    proxy = stack.enter_context(CountingProxy(postgres_url))
    storage = opened(stack, "postgres", url=proxy.url, table_name=postgres_table)
    storage.save_many(documents(1, seed=1000))  # prepares the statements
    first = documents(1)
    outcomes = cost(storage, proxy, first)
    figure("postgres, new documents", proxy.turns, f"round trips for {BATCH}")
    assert proxy.turns == 1
    cost(storage, proxy, again(first, outcomes, 2))
    figure("postgres, known documents", proxy.turns, f"round trips for {BATCH}")
    assert proxy.turns == 1
    assert proxy.connections == 1


def test_elasticsearch_takes_a_bulk_in_one_request(
    elasticsearch_url: str, elasticsearch_index: str, stack: ExitStack
) -> None:
    proxy = stack.enter_context(CountingProxy(elasticsearch_url))
    storage = opened(stack, "elasticsearch", url=proxy.url, index=elasticsearch_index)
    first = documents(1)
    outcomes = cost(storage, proxy, first)
    figure("elasticsearch, new documents", proxy.requests.total(), f"requests for {BATCH}")
    assert proxy.requests.total() == 1
    cost(storage, proxy, again(first, outcomes, 2))
    assert proxy.requests.total() == 1


def test_s3_takes_one_request_for_each_document(
    s3: S3Access, s3_bucket: str, stack: ExitStack
) -> None:
    with closing(s3.client()) as client:
        client.create_bucket(Bucket=s3_bucket)
    proxy = stack.enter_context(CountingProxy(s3.endpoint))
    storage = opened(
        stack,
        "s3",
        endpoint_url=proxy.url,
        aws_access_key_id=s3.key,
        aws_secret_access_key=s3.secret,
        aws_region=s3.region,
        aws_bucket=s3_bucket,
    )
    first = documents(1)
    outcomes = cost(storage, proxy, first)
    figure("s3, new documents", proxy.requests.total() / BATCH, "requests per document")
    assert dict(proxy.requests) == {"PUT": 2 * BATCH}, "the document and its lookup object"
    cost(storage, proxy, again(first, outcomes, 2))
    figure("s3, known documents", proxy.requests.total() / BATCH, "requests per document")
    assert dict(proxy.requests) == {"PUT": BATCH}
    assert proxy.connections <= 16, "connections are kept"
