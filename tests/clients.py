"""The few words that fixtures say to servers: empty, create, delete; clients of HTTP."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

_TIMEOUT_S = 30
# httpx reads all CAs for each client otherwise, which takes 24 ms.
_NO_CA = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client(url: httpx.URL | str, **options: Any) -> httpx.Client:
    """A client of a server of this machine; it trusts no certificate. options: those of httpx.

    httpx itself waits for five seconds, which a busy machine may need.
    """
    return httpx.Client(base_url=url, verify=_NO_CA, **{"timeout": 60, **options})


@dataclass(frozen=True)
class S3Access:
    """How to reach an S3 server."""

    endpoint: str
    key: str
    secret: str
    region: str

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Self:
        """From the settings of a server (servers.running)."""
        key, secret = settings.get("KEY", ""), settings.get("SECRET", "")
        return cls(settings["URL"], key, secret, settings.get("REGION", "us-east-1"))

    def client(self) -> Any:
        """A boto3 client for it."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    @staticmethod
    def delete_bucket(client: Any, name: str) -> None:
        """Delete a bucket with all in it; nothing happens if there is none."""
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
            for page in pages:
                for item in page.get("Contents", ()):
                    client.delete_object(Bucket=name, Key=item["Key"])
            client.delete_bucket(Bucket=name)
        except client.exceptions.NoSuchBucket:
            return


def redis_flush(url: str) -> None:
    """Delete all keys of the URL's database."""
    import redis

    with redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S) as client:
        client.flushdb()


def postgres_execute(url: str, statement: str) -> None:
    """One statement outside of a transaction."""
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=_TIMEOUT_S) as connection:
        connection.execute(statement.encode())


def elasticsearch_delete(url: str, index: str) -> None:
    """Delete an index and the template of its name; nothing happens where there is none."""
    for path in (index, f"_index_template/{index}"):
        request = urllib.request.Request(f"{url}/{path}", method="DELETE")
        try:
            urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 404:
                raise
