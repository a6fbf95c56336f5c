"""What `--json` gives is in docs/operations.md, key by key: programs depend on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.operations import audit
from conserver.queue import keys
from tests.command_line import ROOT, Command
from tests.operators import Consumer, beat, vcon

STORAGE = """
storages: {{files: {{module: storage.file, options: {{path: {}/vcons}}}}}}
chains: {{a: {{ingress_lists: [inbox], storages: [files]}}}}
"""
SCHEDULE = 'schedules: {nightly: {cron: "0 3 * * *", purge: {older: 7d}}}\n'


def documented() -> dict[str, tuple[bool, list[str]]]:
    """Command -> whether it gives a list of such objects, and their keys."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    part = page.partition("## What --json gives\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z ]+)` \| (a list of )?(.*) \|$", part, re.MULTILINE)
    return {name: (bool(many), re.findall(r"`([a-z_]+)`", text)) for name, many, text in rows}


def arguments(name: str, folder: Path) -> Sequence[str]:
    """What a command needs besides its name, so that it has something to show."""
    path = folder / "a.json"
    path.write_bytes(vcon("u-new"))
    return {
        "forget": ["--stored"],
        "submit": [str(path)],
        "where": ["u-waits"],
        "list": ["inbox"],
        "cancel": ["u-waits"],
        "retry": ["--all"],
        "empty": ["inbox"],
        "pause": ["inbox"],
        "dlq show": ["u-dead"],
        "dlq requeue": ["u-dead"],
        "dlq purge": ["u-dead"],
        "dlq count": ["--count"],
    }.get(name, [])


@pytest.mark.parametrize("name", documented())
def test_a_command_gives_these_keys(
    conserver: Command, server: Any, tmp_path: Path, name: str
) -> None:
    config = tmp_path / "scheduled.yml"
    config.write_text(STORAGE.format(tmp_path) + SCHEDULE, encoding="utf-8")
    server.rpush("inbox", "u-dead")
    held = Consumer(server)
    held.dead_letter(reason="failed", link="mark", error="e", type="ValueError")
    if name == "ps":  # Else `drain` would wait for it.
        server.rpush("inbox", "u-held")
        held.claim()
    server.rpush("inbox", "u-waits")
    audit.record(server, "me", "pause", {"lists": ["inbox"]}, 1)
    server.hset(keys.job("j1"), mapping={"uuid": "u-9", "list": "inbox", "status": "queued"})
    server.zadd(keys.JOBS, {"j1": 1})
    beat(server, consumer=held.id)
    words = ["dlq", "list"] if name == "dlq count" else name.split()
    extra = ["j1"] if name == "jobs show" else arguments(name, tmp_path)
    environ = {"CONSERVER_CONFIG_FILE": str(config)}
    found = orjson.loads(conserver(*words, *extra, "--json", **environ).stdout)
    many, expected = documented()[name]
    assert isinstance(found, list) == many
    shown = found[0] if many else found
    assert set(shown) == set(expected)


def test_the_table_is_whole() -> None:
    assert len(documented()) >= 20
