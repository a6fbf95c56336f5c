"""What `--json` gives is in docs/operations.md, key by key: programs depend on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.operations import audit, tokens
from conserver.queue import keys
from tests.command_line import ROOT, Command, every_command
from tests.operators import Consumer, beat, vcon

STORAGE = """
storages: {{files: {{module: storage.file, options: {{path: {}/vcons}}}}}}
chains: {{a: {{ingress_lists: [inbox], storages: [files]}}}}
"""
SCHEDULE = 'schedules: {nightly: {cron: "0 3 * * *", purge: {older: 7d}}}\n'


def documented() -> dict[str, tuple[bool, list[str]]]:
    """Command -> whether it gives a list of such objects, and their keys: none for a vCon."""
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
        "get": ["u-kept"],
        "where": ["u-waits"],
        "list": ["inbox"],
        "cancel": ["u-waits"],
        "retry": ["--all"],
        "empty": ["inbox"],
        "pause": ["inbox"],
        "reload": ["--timeout", "0"],
        "dlq show": ["u-dead"],
        "dlq requeue": ["u-dead"],
        "dlq purge": ["u-dead"],
        "dlq count": ["--count"],
        "jobs show": ["j1"],
        "jobs cancel": ["j1"],
        "schedules run": ["nightly"],
        "schedules pause": ["nightly"],
        "schedules resume": ["nightly"],
        "token add": ["dan", "--role", "read"],
        "token revoke": ["ann"],
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
    server.hset(keys.host("h1"), "started_at", 1)  # `reload` asks nobody who starts later.
    server.set("vcon:u-kept", vcon("u-kept"))
    known = tmp_path / "tokens"
    tokens.add(known, "ann", ["admin"])
    words = ["dlq", "list"] if name == "dlq count" else name.split()
    environ = {"CONSERVER_CONFIG_FILE": str(config), "CONSERVER_API_TOKENS_FILE": str(known)}
    done = conserver(*words, *arguments(name, tmp_path), "--json", **environ)
    found = orjson.loads(done.stdout)
    many, expected = documented()[name]
    assert isinstance(found, list) == many
    shown = found[0] if many else found
    assert set(shown) == set(expected or orjson.loads(vcon("u-kept")))
    if expected:
        assert all(one is None or isinstance(one, int | float) for one in times(found))


def times(value: Any) -> Iterator[Any]:
    """The values that are times, by their keys."""
    if isinstance(value, list):
        for one in value:
            yield from times(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name in ("at", "since") or name.endswith(("_at", "_since")):
                yield one
            yield from times(one)


def test_the_table_has_every_command_with_json() -> None:
    """And no other, but `dlq count`, which is `dlq list --count`."""
    with_json = {
        name
        for name, command in every_command()
        if any("--json" in option.opts for option in command.params)
    }
    assert documented().keys() - {"dlq count"} == with_json
