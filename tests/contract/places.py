"""The storages on their real servers, for tests that run on each of them.

A `Place` knows how to make a storage, which promises differ from kind to kind, and where its server
listens, so that a proxy can be put before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from conserver.testing.storage_places import StoragePlace, not_json
from conserver.testing.storage_places import make_document as document
from storage.contract import Document, Outcome, Storage
from tests.clients import S3Access

__all__ = ["KINDS", "MONGO_URL", "SERVED_KINDS", "Place", "document", "one", "opening", "place"]

TIMEOUT_S = 20
MONGO_URL = "CONSERVER_TEST_MONGO_URL"

S = TypeVar("S", bound=Storage)


@dataclass(kw_only=True)
class Place(StoragePlace):
    """A kind of storage, and a place of our own in it."""

    # Where its server listens, and its options with another port; no port: there is no server.
    port: int | None = None
    at_port: Callable[[int], dict[str, Any]] = field(default=lambda port: {})
    # Shapes of tests.vcons that it takes but does not keep whole, or not at all.
    keeps_part_of: frozenset[str] = frozenset()
    rejects: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        """The last part of the module's name."""
        return self.module.rpartition(".")[2]

    def make(self, timeout_s: float = TIMEOUT_S, **options: Any) -> Storage:
        """A storage that is not open yet."""
        return super().make(timeout_s=timeout_s, **options)

    @contextmanager
    def opened(self, timeout_s: float = TIMEOUT_S, **options: Any) -> Iterator[Storage]:
        """An open storage, closed at the end."""
        with super().opened(timeout_s=timeout_s, **options) as storage:
            yield storage


@contextmanager
def opening(make: Callable[..., S]) -> Iterator[Callable[..., S]]:
    """Open what `make` makes of options, and close all of it at the end."""
    with ExitStack() as stack:

        def opened(**options: Any) -> S:
            storage = stack.enter_context(closing(make(**options)))
            storage.open()
            return storage

        yield opened


def one(storage: Storage, given: Document) -> Outcome:
    """Save a document. Returns its outcome."""
    (outcome,) = storage.save_many([given])
    return outcome


def place(kind: str, request: pytest.FixtureRequest) -> Place:
    """A new place of a kind; skips where its server cannot be had."""
    made: Place = _KINDS[kind](request)
    return made


def _postgres(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("postgres_url")
    table = request.getfixturevalue("postgres_table")
    return Place(
        module="storage.postgres",
        options={"url": url, "table_name": table},
        port=urlsplit(url).port,
        at_port=lambda port: {"url": _moved(url, port)},
        rejects=frozenset(["nul"]),
        unacceptable=lambda: document(subject="a\0b"),
        search_options={"search": True},
    )


def _s3(request: pytest.FixtureRequest) -> Place:
    access: S3Access = request.getfixturevalue("s3")
    bucket = request.getfixturevalue("s3_bucket")
    with closing(access.client()) as client:
        client.create_bucket(Bucket=bucket)
    return Place(
        module="storage.s3",
        options={
            "endpoint_url": access.endpoint,
            "aws_access_key_id": access.key,
            "aws_secret_access_key": access.secret,
            "aws_region": access.region,
            "aws_bucket": bucket,
            "s3_path": "some/path",
        },
        port=urlsplit(access.endpoint).port,
        at_port=lambda port: {"endpoint_url": _moved(access.endpoint, port)},
        keeps_bytes=True,
        unacceptable=not_json,
    )


def _elasticsearch(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("elasticsearch_url")
    index = request.getfixturevalue("elasticsearch_index")
    return Place(
        module="storage.elasticsearch",
        options={
            "url": url,
            "index": index,
            "index_settings": {"number_of_replicas": 0},
        },
        port=urlsplit(url).port,
        at_port=lambda port: {"url": _moved(url, port)},
        keeps_part_of=frozenset(["big_bodies"]),
        unacceptable=lambda: Document(str(uuid4()), b'{"uuid": "twice", "uuid": "twice"}', 1),
    )


def _file(request: pytest.FixtureRequest) -> Place:
    path: Path = request.getfixturevalue("tmp_path")
    return Place(
        module="storage.file",
        options={"path": str(path / "vcons")},
        keeps_bytes=True,
        unacceptable=not_json,
    )


def _sqlite(request: pytest.FixtureRequest) -> Place:
    path: Path = request.getfixturevalue("tmp_path")
    return Place(
        module="storage.sqlite",
        options={"path": str(path / "new" / "vcons.db")},
        keeps_bytes=True,
        unacceptable=not_json,
    )


def _redis(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("redis_url")
    return Place(
        module="storage.redis",
        options={"redis_url": url},
        port=urlsplit(url).port,
        at_port=lambda port: {"redis_url": _moved(url, port)},
        keeps_bytes=True,
    )


def _mongo(request: pytest.FixtureRequest) -> Place:
    url = os.environ[MONGO_URL]
    return Place(
        module="storage.mongo",
        options={"url": url, "database": "conserver_test", "collection": f"vcons_{uuid4().hex}"},
        port=urlsplit(url).port,
        at_port=lambda port: {"url": _moved(url, port)},
        unacceptable=lambda: document(_id="ours"),
    )


def _moved(url: str, port: int) -> str:
    """The URL with another port, on this host."""
    parts = urlsplit(url)
    account, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{account}{at}127.0.0.1:{port}").geturl()


_KINDS: dict[str, Callable[[pytest.FixtureRequest], Place]] = {
    "postgres": _postgres,
    "s3": _s3,
    "elasticsearch": _elasticsearch,
    "file": _file,
    "sqlite": _sqlite,
    "redis": _redis,
    "mongo": _mongo,
}
# No package index has a MongoDB. Where the variable names a server, it is one of them.
KINDS = tuple(kind for kind in _KINDS if kind != "mongo" or MONGO_URL in os.environ)
SERVED_KINDS = tuple(kind for kind in KINDS if kind not in ("file", "sqlite"))
