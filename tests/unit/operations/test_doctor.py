"""What `conserver doctor` knows of itself: which commands are called, and when memory is short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Redis

from conserver.operations.doctor import REDIS_COMMANDS, eviction, examine
from conserver.queue.clients import client as connect
from tests.conftest import Private

PACKAGE = Path(__file__).parents[3] / "conserver"
MIB = 1 << 20


def found(where: str, pattern: str) -> Iterator[str]:
    """What the group of `pattern` matches in these files, in small letters."""
    for path in PACKAGE.glob(where):
        yield from (name.lower() for name in re.findall(pattern, path.read_text(encoding="utf-8")))


def called() -> set[str]:
    """Every command of Redis that the sources call."""
    scripts = set(found("queue/*.lua", r"\('([A-Z]{2,})'"))
    spoken = {
        *found("worker/*.py", r"\.command\(\"([A-Z]+)\""),
        *found("queue/*.py", r"\(\"([A-Z]{2,})\"[,)]"),
        *found("coordinator/*.py", r"\(\"([A-Z]{2,})\"[,)]"),
    }
    methods = {
        *found("queue/*.py", r"\b(?:client|pipe)\.([a-z_]+)\("),
        *found("operations/*.py", r"\b(?:client|pipe)\.([a-z_]+)\("),
    }
    methods -= {"pipeline", "execute", "execute_command", "close"}
    # What `submit` does at once is a transaction.
    return scripts | spoken | {_command(name) for name in methods} | {"multi", "exec"}


def _command(method: str) -> str:
    """The command that a method of the client sends."""
    return "del" if method == "delete" else method.removesuffix("_iter")


def test_doctor_asks_for_the_right_to_every_command_that_is_called() -> None:
    """And for no others. Its own questions, and what nobody can be forbidden, are no work of ours.
    RedisJSON may not be there, and only whoever follows jobs misses what is published. Only the API
    watches a document while it replaces it, and keeps vcon-server's index.
    """
    questions = {"config_get", "acl", "config", "hello", "memory_usage"}
    not_asked_for = {*questions, "publish", "watch"}
    of_the_index = {"zrandmember", "zremrangebyscore"}
    assert called() - not_asked_for - of_the_index == set(REDIS_COMMANDS)


@pytest.mark.parametrize(
    ("policy", "used", "limit", "level", "text"),
    [
        ("noeviction", 89, 100, "ok", "noeviction, 89 of 100 MiB used"),
        ("noeviction", 90, 100, "warning", "90 of 100 MiB used: it is nearly full"),
        ("noeviction", 100, 100, "wrong", "100 of 100 MiB used: producers cannot push"),
        ("noeviction", 2, 1, "wrong", "2 of 1 MiB used: producers cannot push"),
        ("noeviction", 2, 0, "ok", "no memory limit, 2 MiB used"),
        ("allkeys-lru", 2, 0, "ok", "no memory limit, 2 MiB used"),
        ("allkeys-lru", 2, 100, "wrong", "allkeys-lru"),
    ],
)
def test_eviction(policy: str, used: int, limit: int, level: str, text: str) -> None:
    """A full Redis refuses every write, and one that makes room by itself loses items."""
    finding = eviction(policy, used * MIB, limit * MIB)
    assert finding.level == level
    assert text in finding.text


def test_a_user_that_may_not_publish(private: Private) -> None:
    """Jobs work without it and cannot be followed as they happen: a warning, with the remedy."""
    redis = private(Redis())
    redis.ask("ACL", "SETUSER", "poor", "on", "nopass", "resetchannels", "~*", "+@all")
    with connect(redis.url.replace("//", "//poor:x@")) as client:
        findings = {finding.subject: finding for finding in examine(client).findings}
    assert findings["rights"].level == "ok"
    assert findings["events"].level == "warning"
    assert findings["events"].advice == "ACL SETUSER poor +publish &conserver:events:*"
    with connect(redis.url) as client:
        assert "events" not in {finding.subject for finding in examine(client).findings}
