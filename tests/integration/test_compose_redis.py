"""The Redis of docker-compose.yml: its own configuration and users, on a real server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from servers import Redis

from tests.daemon import Daemon, elements, push, vcon

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with secrets made by the script, and with the configuration that points there."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "make-secrets", tmp_path / "scripts")
    script = str(tmp_path / "scripts" / "make-secrets")
    subprocess.run(["sh", script], check=True, capture_output=True)
    return tmp_path


def test_conserver_works_as_the_user_that_it_gets(
    folder: Path, private: Callable[[Redis], Redis]
) -> None:
    server = private(Redis({"aclfile": str(folder / "secrets" / "redis_acl")}))
    password = (folder / "secrets" / "redis_password").read_text().strip()
    url = server.url.replace("redis://", f"redis://conserver:{password}@")
    chain = {"ingress_lists": ["in"], "egress_lists": ["out"]}
    with (
        redis.Redis.from_url(url) as client,
        Daemon(folder / "host", url, {"chains": {"main": chain}}) as daemon,
    ):
        uuids = push(client, "in", [vcon() for _ in range(3)])
        daemon.until(lambda: sorted(elements(client, "out")) == sorted(uuids))
        assert daemon.stop() == 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
    with redis.Redis.from_url(server.url) as stranger:
        assert stranger.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            stranger.get("vcon:x")
