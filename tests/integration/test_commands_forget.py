"""`conserver forget --stored`: what every storage has makes room in a full Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Redis

from conserver.queue import keys
from conserver.queue.clients import client as connect
from storage.contract import Document
from storage.file import Options, Storage
from tests.command_line import Command
from tests.conftest import Private
from tests.helpers import eventually
from tests.operators import Consumer, vcon

CONFIG = """
storages:
  one: {{module: storage.file, options: {{path: {0}/one}}}}
  two: {{module: storage.file, options: {{path: {0}/two}}}}
chains: {{a: {{ingress_lists: [inbox], storages: [one, two], egress_lists: [out]}}}}
"""
IN_BOTH = ("u-done", "u-dead", "u-out", "u-waits", "u-at-work", "u-far", "u-changed")


@pytest.fixture
def redis(private: Private) -> Any:
    return private(Redis({"maxmemory-policy": "noeviction"}))


@pytest.fixture
def full(redis: Any, tmp_path: Path) -> Iterator[Any]:
    """Documents of each kind, in a Redis in which nothing fits any more."""
    (tmp_path / "c.yml").write_text(CONFIG.format(tmp_path), encoding="utf-8")
    for name, uuids in (("one", (*IN_BOTH, "u-half")), ("two", IN_BOTH)):
        storage = Storage(name, Options(path=tmp_path / name))
        storage.open()
        storage.save_many([Document(uuid, vcon(uuid), 1, None, None) for uuid in uuids])
        storage.close()
    with connect(redis.url) as client:
        client.rpush("inbox", "u-dead")
        Consumer(client).dead_letter(reason="failed", error="e")
        client.rpush("inbox", "u-waits")
        client.rpush("out", "u-out")
        for uuid in (*IN_BOTH, "u-half", "u-nowhere"):
            client.set(keys.document(uuid), vcon(uuid), ex=None if uuid == "u-at-work" else 3600)
            client.hset(keys.revision(uuid), "revision", 1)
        client.pexpireat(keys.document("u-far"), 7_258_118_400_000)
        client.set(keys.document("u-changed"), vcon("u-changed", subject="newer"), ex=3600)
        client.config_set("maxmemory", 1)
        yield client


def test_only_what_is_done_with_and_everywhere_is_forgotten(
    conserver: Command, redis: Any, full: Any, tmp_path: Path
) -> None:
    environ = {"REDIS_URL": redis.url, "CONSERVER_CONFIG_FILE": str(tmp_path / "c.yml")}
    before = sorted(full.scan_iter("vcon:*"))
    done = conserver("forget", "--stored", "--dry-run", **environ)
    assert (done.returncode, b"1 would be forgotten" in done.stdout) == (0, True), done
    assert sorted(full.scan_iter("vcon:*")) == before
    done = conserver("forget", "--stored", **environ)
    assert done.stdout.decode().splitlines() == [
        "1 forgotten",
        "3 stay: a list or a dead letter names them",
        "3 stay: a storage does not have them",
    ]
    eventually(lambda: not full.exists(keys.document("u-done"), keys.revision("u-done")))
    assert len(list(full.scan_iter("vcon:*"))) == len(before) - 1
    assert full.ttl(keys.document("u-out")) > 3000


def test_it_wants_to_be_told_what(conserver: Command, redis: Any) -> None:
    done = conserver("forget", REDIS_URL=redis.url)
    assert done.returncode == 2
    assert b"--stored" in done.stderr


def test_a_storage_that_does_not_answer_keeps_everything(
    conserver: Command, redis: Any, full: Any, tmp_path: Path
) -> None:
    (tmp_path / "two").rename(tmp_path / "elsewhere")
    (tmp_path / "two").write_text("not a folder")
    environ = {"REDIS_URL": redis.url, "CONSERVER_CONFIG_FILE": str(tmp_path / "c.yml")}
    done = conserver("forget", "--stored", **environ)
    assert done.returncode == 69
    assert b"storage two cannot be asked" in done.stderr
    assert full.ttl(keys.document("u-done")) > 3000
