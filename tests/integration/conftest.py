"""Fixtures of the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from servers import Elasticsearch, Missing

from conserver.queue.clients import client as connect
from tests.command_line import Command
from tests.conftest import absent

CONFIG = """
links: {mark: {module: links.tag, options: {tags: [a]}}}
chains:
  main: {links: [mark], ingress_lists: [inbox], egress_lists: [done]}
"""


@pytest.fixture(scope="session")
def elasticsearch_with_password() -> Iterator[Elasticsearch]:
    """A node that asks for a password; a test may kill it, and starts it again."""
    try:
        with Elasticsearch(password="correct horse") as node:
            yield node
    except Missing as error:
        absent(str(error))


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis, to look into what commands did."""
    with connect(redis_url) as found:
        yield found


@pytest.fixture
def conserver(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Command:
    """Commands that use that Redis and a configuration with the one list `inbox`."""
    path = tmp_path / "config.yml"
    path.write_text(CONFIG, encoding="utf-8")
    environ = {"REDIS_URL": redis_url, "CONSERVER_CONFIG_FILE": str(path)}
    return Command(monkeypatch, capfdbinary, environ)
