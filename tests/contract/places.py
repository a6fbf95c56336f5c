"""The storages on their real servers, for tests that run on each of them.

A `Place` knows how to make a storage, which promises differ from kind to kind, and where its server
listens, so that a proxy can be put before it.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from storage.contract import Document, Storage, StorageOptions
from tests.clients import S3Access

TIMEOUT_S = 20
MONGO_URL = "CONSERVER_TEST_MONGO_URL"


@dataclass
class Place:
    """A kind of storage, and a place of our own in it."""

    kind: str
    options: dict[str, Any]
    # Where its server listens, and its options with another port; no port: there is no server.
    port: int | None = None
    at_port: Callable[[int], dict[str, Any]] = field(default=lambda port: {})
    # Whether `get` gives the very bytes, or only what they say.
    keeps_bytes: bool = False
    # Shapes of tests.vcons that it takes but does not keep whole, or not at all.
    keeps_part_of: frozenset[str] = frozenset()
    rejects: frozenset[str] = frozenset()
    # A document that it will never take.
    bad: Callable[[], Document] | None = None

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"storage.{self.kind}")

    def make(self, timeout_s: float = TIMEOUT_S, **options: Any) -> Storage:
        """A storage that is not open yet."""
        given = {"timeout_s": timeout_s, **self.options, **options}
        parsed: StorageOptions = self.module.Options.model_validate(given)
        self.module.prepare(parsed)
        made: Storage = self.module.Storage(self.kind, parsed)
        return made

    @contextmanager
    def opened(self, timeout_s: float = TIMEOUT_S, **options: Any) -> Iterator[Storage]:
        """An open storage, closed at the end."""
        storage = self.make(timeout_s, **options)
        with closing(storage):
            storage.open()
            yield storage


def document(revision: int = 1, uuid: str | None = None, **members: Any) -> Document:
    """A small vCon."""
    uuid = uuid or str(uuid4())
    data = {"uuid": uuid, "created_at": "2025-03-04T05:06:07.891+02:00", **members}
    return Document(uuid, json.dumps(data).encode(), revision)


def not_json() -> Document:
    return Document(str(uuid4()), b'{"uuid": 1', 1)


def place(kind: str, request: pytest.FixtureRequest) -> Place:
    """A new place of a kind; skips where its server cannot be had."""
    made: Place = _KINDS[kind](request)
    return made


def _postgres(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("postgres_url")
    table = request.getfixturevalue("postgres_table")
    return Place(
        "postgres",
        {"url": url, "table_name": table},
        urlsplit(url).port,
        lambda port: {"url": _moved(url, port)},
        rejects=frozenset(["nul"]),
        bad=lambda: document(subject="a\0b"),
    )


def _s3(request: pytest.FixtureRequest) -> Place:
    access: S3Access = request.getfixturevalue("s3")
    bucket = request.getfixturevalue("s3_bucket")
    with closing(access.client()) as client:
        client.create_bucket(Bucket=bucket)
    return Place(
        "s3",
        {
            "endpoint_url": access.endpoint,
            "aws_access_key_id": access.key,
            "aws_secret_access_key": access.secret,
            "aws_region": access.region,
            "aws_bucket": bucket,
            "s3_path": "some/path",
        },
        urlsplit(access.endpoint).port,
        lambda port: {"endpoint_url": _moved(access.endpoint, port)},
        keeps_bytes=True,
        bad=not_json,
    )


def _elasticsearch(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("elasticsearch_url")
    index = request.getfixturevalue("elasticsearch_index")
    return Place(
        "elasticsearch",
        {
            "url": url,
            "index": index,
            "index_settings": {"number_of_replicas": 0},
        },
        urlsplit(url).port,
        lambda port: {"url": _moved(url, port)},
        keeps_part_of=frozenset(["big_bodies"]),
        bad=lambda: Document(str(uuid4()), b'{"uuid": "twice", "uuid": "twice"}', 1),
    )


def _file(request: pytest.FixtureRequest) -> Place:
    path: Path = request.getfixturevalue("tmp_path")
    return Place("file", {"path": str(path / "vcons")}, keeps_bytes=True, bad=not_json)


def _sqlite(request: pytest.FixtureRequest) -> Place:
    path: Path = request.getfixturevalue("tmp_path")
    return Place("sqlite", {"path": str(path / "new" / "vcons.db")}, keeps_bytes=True, bad=not_json)


def _redis(request: pytest.FixtureRequest) -> Place:
    url = request.getfixturevalue("redis_url")
    return Place(
        "redis",
        {"redis_url": url},
        urlsplit(url).port,
        lambda port: {"redis_url": _moved(url, port)},
        keeps_bytes=True,
    )


def _mongo(request: pytest.FixtureRequest) -> Place:
    url = os.environ[MONGO_URL]
    return Place(
        "mongo",
        {"url": url, "database": "conserver_test", "collection": f"vcons_{uuid4().hex}"},
        urlsplit(url).port,
        lambda port: {"url": _moved(url, port)},
        bad=lambda: document(_id="ours"),
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
