"""The fixture `conserver`: what becomes of an item, in a test without a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conserver.errors import ConfigError, Rejected, Retry
from conserver.links import LinkContext
from conserver.testing.harness import Conserver
from conserver.testing.redis_server import FakeRedisServer
from conserver.vcon.document import Vcon
from storage.contract import Document, Outcome, StorageOptions, Stored, Unavailable

# ---- a link and a storage of this module's own ---------------------------------------------------


def run(vcon: Vcon, _options: Any, context: LinkContext) -> Vcon | None:
    """Does what the subject says."""
    what = vcon.view.get("subject")
    if what == "filter":
        return None
    if what == "reject":
        raise Rejected("no good")
    if what == "fail":
        raise RuntimeError("broken")
    if what == "retry" and context.attempt < 3:
        raise Retry(3600, "busy")
    if what == "checkpoint":
        vcon.add_tag("saved", "yes")
        context.checkpoint()
    context.push("audit")
    vcon.add_tag("seen", "yes")
    return vcon


class Options(StorageOptions):
    """Of the storage below; a link ignores them."""


class Storage:
    """Takes nothing while it is away."""

    away = False
    documents: dict[str, bytes] = {}  # noqa: RUF012 - all of its clients share them

    def __init__(self, name: str, options: Options) -> None:
        self.name = name

    def open(self) -> None:
        if self.away:
            raise ConnectionError("nobody listens")

    def close(self) -> None:
        """There is nothing to close."""

    def save_many(self, documents: list[Document]) -> list[Outcome]:
        if self.away:
            return [Unavailable("away")] * len(documents)
        self.documents.update({one.uuid: one.body for one in documents})
        return [Stored()] * len(documents)

    def get(self, uuid: str) -> bytes | None:
        return self.documents.get(uuid)

    def delete(self, uuid: str) -> bool:
        return self.documents.pop(uuid, None) is not None

    def ready(self) -> None:
        """It is."""


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with FakeRedisServer() as server:
        yield server.url


@pytest.fixture
def conserver(redis_url: str) -> Iterator[Conserver]:
    with Conserver(redis_url) as made:
        made.client.flushdb()
        Storage.away = False
        yield made


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    module = __name__
    return {
        "links": {"it": {"module": module}},
        "storages": {
            "ours": {"module": module},
            "files": {"module": "storage.file", "options": {"path": str(tmp_path)}},
        },
        "chains": {
            "main": {
                "links": ["it"],
                "storages": ["ours", "files"],
                "ingress_lists": ["in"],
                "egress_lists": ["out"],
                "retries": 2,
            }
        },
    }


def test_an_item_goes_all_the_way(conserver: Conserver, config: dict[str, Any]) -> None:
    conserver.configure(config)
    uuid = conserver.push("in", {"subject": "checkpoint"})
    assert conserver.run_once() == 1
    assert conserver.egress("out") == conserver.egress("audit") == [uuid]
    vcon = conserver.vcon(uuid)
    assert vcon is not None
    assert vcon.tags == {"saved": "yes", "seen": "yes"}
    assert conserver.stored("ours", uuid) == conserver.stored("files", uuid) == vcon.view
    assert conserver.vcon("nobody") is None
    assert conserver.stored("files", "nobody") is None


def test_many_items_at_once(conserver: Conserver, config: dict[str, Any]) -> None:
    conserver.configure(config)
    uuids = [conserver.push("in", {}) for _ in range(50)]
    conserver.run_until_settled()
    assert sorted(conserver.egress("out")) == sorted(uuids)


def test_retries_do_not_wait_for_their_time(conserver: Conserver, config: dict[str, Any]) -> None:
    conserver.configure(config)
    uuid = conserver.push("in", {"subject": "retry"})
    conserver.run_once()
    assert conserver.parked("in") == {uuid: "busy"}
    conserver.run_until_settled()
    assert (conserver.parked("in"), conserver.egress("out")) == ({}, [uuid])


def test_dead_letters_say_why(conserver: Conserver, config: dict[str, Any]) -> None:
    conserver.configure(config)
    rejected = conserver.push("in", {"subject": "reject"})
    failed = conserver.push("in", {"subject": "fail"})
    conserver.push("in", "no vCon")
    conserver.run_until_settled()
    letters = {letter["uuid"]: letter for letter in conserver.dead_letters("in")}
    assert len(letters) == 3
    assert (letters[rejected]["reason"], letters[rejected]["error"]) == ("rejected", "no good")
    assert (letters[failed]["reason"], letters[failed]["attempts"]) == ("failed", 3)
    assert "RuntimeError: broken" in letters[failed]["traceback"]
    assert conserver.egress("out") == []


def test_a_filtered_item_is_neither_stored_nor_passed_on(
    conserver: Conserver, config: dict[str, Any]
) -> None:
    conserver.configure(config)
    uuid = conserver.push("in", {"subject": "filter"})
    conserver.run_until_settled()
    assert conserver.egress("out") == []
    assert conserver.dead_letters("in") == []
    assert conserver.stored("files", uuid) is None


def test_a_storage_that_is_away_is_owed(conserver: Conserver, config: dict[str, Any]) -> None:
    conserver.configure(config)
    Storage.away = True
    uuid = conserver.push("in", {})
    conserver.run_once()
    assert list(conserver.parked("in")) == [uuid]
    assert conserver.stored("files", uuid) is not None
    with pytest.raises(AssertionError, match=f"still parked after 3 rounds: .*{uuid}"):
        conserver.run_until_settled(rounds=3)
    Storage.away = False
    conserver.run_until_settled()
    assert conserver.stored("ours", uuid) is not None
    assert conserver.egress("out") == [uuid]
    assert conserver.egress("audit") == [uuid], "no link ran again"


def test_what_redis_has_lost_comes_from_a_storage(
    conserver: Conserver, config: dict[str, Any]
) -> None:
    conserver.configure(config)
    uuid = conserver.push("in", {})
    conserver.run_until_settled()
    conserver.client.delete(f"vcon:{uuid}", "out")
    conserver.push("in", uuid)
    conserver.run_until_settled()
    assert conserver.egress("out") == [uuid]


def test_a_file_with_variables_and_one_configuration_after_another(
    conserver: Conserver, tmp_path: Path
) -> None:
    path = tmp_path / "config.yml"
    path.write_text(
        "links: {t: {module: links.tag, options: {tags: ['who:${WHO}']}}}\n"
        "chains: {c: {links: [t], ingress_lists: [in], egress_lists: [out]}}\n"
    )
    for who in ("one", "two"):
        conserver.configure(path, {"WHO": who})
        uuid = conserver.push("in", Vcon.parse(b'{"uuid":"u-%s"}' % who.encode()))
        conserver.run_until_settled()
        vcon = conserver.vcon(uuid)
        assert vcon is not None
        assert vcon.tags == {"who": who}
    with pytest.raises(ConfigError, match="WHO"):
        conserver.configure(path.read_text(), {})


def test_the_plugin_gives_the_fixture(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In a folder of its own, with nothing of this checkout's tests."""
    import subprocess

    root = request.config.rootpath
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["conserver.testing.plugin"]\n')
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "CHAIN = {'links': ['t'], 'ingress_lists': ['in'], 'egress_lists': ['out']}\n"
        "LINK = {'module': 'links.tag', 'options': {'tags': ['a']}}\n"
        "def test_it(conserver):\n"
        "    conserver.configure({'links': {'t': LINK}, 'chains': {'c': CHAIN}})\n"
        "    uuid = conserver.push('in', {})\n"
        "    conserver.run_until_settled()\n"
        "    assert conserver.egress('out') == [uuid]\n"
        "    assert not [name for name in sys.modules if name.startswith('tests')]\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:valkey"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_it.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
