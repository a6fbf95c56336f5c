"""Real servers for the tests, each started as a private instance with a handle of its own.

Redis(options={"appendonly": "yes"}), Postgres(), S3() and Elasticsearch() are one shape: Server.
A handle starts its server on a free loopback port, knows its `url`, and can stop it, kill it,
pause it (SIGSTOP) and start it again on the same port with the same data. What a server needs is
taken from a Docker engine where one answers, else from packages (see packages.py).
Only the standard library is used here, so that this runs before anything has been installed.
"""

from __future__ import annotations

from servers.base import Server, ServerFailed, start_all
from servers.elasticsearch import Elasticsearch
from servers.packages import Missing
from servers.ports import free_port
from servers.postgres import Postgres
from servers.redis import Redis
from servers.s3 import S3

KINDS: dict[str, type[Server]] = {kind.kind: kind for kind in (Redis, Postgres, S3, Elasticsearch)}

__all__ = [
    "KINDS",
    "S3",
    "Elasticsearch",
    "Missing",
    "Postgres",
    "Redis",
    "Server",
    "ServerFailed",
    "free_port",
    "start_all",
]
