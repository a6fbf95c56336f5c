"""The three storages as somebody sees them who only has their addresses: how much, and what.

Each Place makes its bucket, table or index name, says how a configuration names it, and reads what
is in it with the server's own client, not with ours.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

from servers import S3, Elasticsearch, Postgres, Server

NAME = "vcons"
PAGE = 500

Documents = dict[str, dict[str, Any]]


class Place(ABC):
    """One storage of a run: a private server, and what Conserver is told of it."""

    name: ClassVar[str]
    kind: ClassVar[type[Server]]

    def __init__(self, timeout_s: float) -> None:
        """timeout_s: after how long Conserver takes it for hanging."""
        self.server: Server = self.kind()
        self.timeout_s = timeout_s

    def prepare(self) -> None:
        """What has to be there before the first document comes; the server runs."""
        return

    @abstractmethod
    def config(self, port: int) -> dict[str, Any]:
        """Its entry under `storages`, reached through `port`."""

    def protect(self, protected: bool) -> bool:
        """Let it answer and take nothing, or end that. False: it knows no such thing.

        Raises while its server is away.
        """
        return False

    @abstractmethod
    def uuids(self) -> set[str]:
        """Which vCons it holds. Raises while its server is away."""

    @abstractmethod
    def documents(self, uuids: Collection[str]) -> Documents:
        """What it holds of these vCons. Raises while its server is away."""

    def holds(self, uuids: Collection[str]) -> int:
        """How many of these vCons it holds. Raises while its server is away."""
        return len(self.documents(uuids))

    def count(self) -> int:
        """How many vCons it holds. Raises while its server is away."""
        return len(self.uuids())


class PostgresPlace(Place):
    """A table."""

    name = "postgres"
    kind = Postgres

    def config(self, port: int) -> dict[str, Any]:
        options = {"url": self._url(port), "table_name": NAME, "timeout_s": self.timeout_s}
        return {"module": "storage.postgres", "options": options}

    def protect(self, protected: bool) -> bool:
        import psycopg

        options = "-c default_transaction_read_only=off"
        url = self._url(self.server.port)
        with psycopg.connect(url, connect_timeout=5, options=options, autocommit=True) as client:
            value = b"on" if protected else b"off"
            client.execute(b"ALTER SYSTEM SET default_transaction_read_only = " + value)
            client.execute(b"SELECT pg_reload_conf()")
        return True

    def uuids(self) -> set[str]:
        return {str(row[0]) for row in self._rows("SELECT id FROM vcons", {})}

    def count(self) -> int:
        return int(next(self._rows("SELECT count(*) FROM vcons", {}))[0])

    def documents(self, uuids: Collection[str]) -> Documents:
        query = "SELECT id, vcon_json FROM vcons WHERE id = ANY(%(uuids)s::uuid[])"
        return {str(row[0]): row[1] for row in self._rows(query, {"uuids": list(uuids)})}

    @staticmethod
    def _url(port: int) -> str:
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def _rows(self, query: str, values: dict[str, Any]) -> Iterator[Any]:
        import psycopg

        url = self._url(self.server.port)
        with psycopg.connect(url, connect_timeout=5, options="-c statement_timeout=30s") as client:
            try:
                yield from client.execute(query.encode(), values).fetchall()
            except psycopg.errors.UndefinedTable:
                return


class S3Place(Place):
    """A bucket."""

    name = "s3"
    kind = S3

    def prepare(self) -> None:
        with self._client() as client:
            client.create_bucket(Bucket=NAME)

    def config(self, port: int) -> dict[str, Any]:
        options = {
            "aws_bucket": NAME,
            "endpoint_url": f"http://127.0.0.1:{port}",
            "aws_access_key_id": S3.key,
            "aws_secret_access_key": S3.secret,
            "aws_region": S3.region,
            "timeout_s": self.timeout_s,
        }
        return {"module": "storage.s3", "options": options}

    def uuids(self) -> set[str]:
        return set(self._keys())

    def documents(self, uuids: Collection[str]) -> Documents:
        wanted = set(uuids)
        keys = {uuid: key for uuid, key in self._keys().items() if uuid in wanted}
        with self._client() as client, ThreadPoolExecutor(8) as pool:

            def read(entry: tuple[str, str]) -> tuple[str, dict[str, Any]]:
                answer = client.get_object(Bucket=NAME, Key=entry[1])
                return entry[0], json.loads(answer["Body"].read())

            return dict(pool.map(read, keys.items()))

    def holds(self, uuids: Collection[str]) -> int:
        return len(self._keys().keys() & set(uuids))

    def _keys(self) -> dict[str, str]:
        """uuid -> key of every vCon."""
        found = {}
        with self._client() as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=NAME):
                for entry in page.get("Contents", ()):
                    key = entry["Key"]
                    if key.endswith(".vcon"):
                        found[key.rpartition("/")[2].removesuffix(".vcon")] = key
        return found

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "s3",
            endpoint_url=self.server.url,
            aws_access_key_id=S3.key,
            aws_secret_access_key=S3.secret,
            region_name=S3.region,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"max_attempts": 1},
                connect_timeout=5,
                read_timeout=10,
                max_pool_connections=8,
            ),
        )
        try:
            yield client
        finally:
            client.close()


class ElasticsearchPlace(Place):
    """An index."""

    name = "elasticsearch"
    kind = Elasticsearch

    def config(self, port: int) -> dict[str, Any]:
        options = {"url": f"http://127.0.0.1:{port}", "index": NAME, "timeout_s": self.timeout_s}
        return {"module": "storage.elasticsearch", "options": options}

    def protect(self, protected: bool) -> bool:
        with self._client() as client:
            if not client.indices.exists(index=NAME):
                return False
            client.indices.put_settings(index=NAME, settings={"index.blocks.write": protected})
        return True

    def uuids(self) -> set[str]:
        found: set[str] = set()
        after: list[Any] = []
        with self._client() as client:
            if not client.indices.exists(index=NAME):
                return found
            client.indices.refresh(index=NAME)
            while True:
                body: dict[str, Any] = {"size": 5000, "sort": ["uuid"], "_source": False}
                if after:
                    body["search_after"] = after
                hits = client.search(index=NAME, body=body)["hits"]["hits"]
                if not hits:
                    return found
                found |= {hit["_id"] for hit in hits}
                after = hits[-1]["sort"]

    def count(self) -> int:
        with self._client() as client:
            if not client.indices.exists(index=NAME):
                return 0
            client.indices.refresh(index=NAME)
            return int(client.count(index=NAME)["count"])

    def documents(self, uuids: Collection[str]) -> Documents:
        wanted = list(uuids)
        found: Documents = {}
        with self._client() as client:
            for start in range(0, len(wanted), PAGE):
                page = client.mget(index=NAME, ids=wanted[start : start + PAGE], source=["vcon"])
                found |= {d["_id"]: d["_source"]["vcon"] for d in page["docs"] if d.get("found")}
        return found

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from elasticsearch import Elasticsearch as Client

        client = Client(self.server.url, request_timeout=10, max_retries=0)
        try:
            yield client
        finally:
            client.close()


PLACES: dict[str, type[Place]] = {
    place.name: place for place in (PostgresPlace, S3Place, ElasticsearchPlace)
}
