"""An operation that changes something leaves one audit entry; one that does not leaves none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.config.settings import Settings
from conserver.errors import Rejected
from conserver.operations import audit, dead_letter_moves, items, lists, reclaim, submit
from conserver.operations.dead_letters import Filter
from conserver.queue import keys
from tests.operators import Consumer, vcon

ROOT = Path(__file__).parents[3]
WHO = "me@here"
EVERYTHING = Filter()


def drain(server: Any) -> None:
    deque(lists.drain(server, ["inbox"], timeout_s=0, actor=WHO), maxlen=0)


def requeue(server: Any, **options: Any) -> None:
    deque(dead_letter_moves.requeue(server, EVERYTHING, actor=WHO, **options), maxlen=0)


def purge(server: Any, **options: Any) -> None:
    wanted = Filter(names=("inbox",), reason="failed")
    deque(dead_letter_moves.purge(server, wanted, actor=WHO, **options), maxlen=0)


def put(server: Any) -> None:
    documents: list[tuple[str, bytes | Rejected]] = [
        ("a", vcon("u-7")),
        ("b", vcon("u-8")),
        ("c", Rejected("unreadable")),
    ]
    deque(submit.submit(server, "inbox", documents, settings=Settings(), actor=WHO), maxlen=0)


@pytest.mark.parametrize(
    ("operation", "action", "target", "count"),
    [
        (lambda s: lists.pause(s, ["inbox"], actor=WHO), "pause", {"lists": ["inbox"]}, 1),
        (lambda s: lists.resume(s, [], actor=WHO), "resume", {"lists": ["other"]}, 1),
        (drain, "drain", {"lists": ["inbox"]}, 1),
        (lambda s: items.cancel(s, "u-9", actor=WHO), "cancel", {"uuid": "u-9"}, 1),
        (requeue, "requeue", {}, 2),
        (purge, "purge", {"names": ["inbox"], "reason": "failed"}, 2),
        (lambda s: reclaim.reclaim(s, actor=WHO), "reclaim", {}, 1),
        (put, "submit", {"list": "inbox"}, 2),
    ],
)
def test_a_change_leaves_one_entry(
    server: Any, operation: Callable[[Any], None], action: str, target: Any, count: int
) -> None:
    """It says who did what to what, and to how many."""
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2")
    consumer.dead_letter(reason="failed", error="e")
    if action == "reclaim":
        server.rpush("inbox", "u-3")
        consumer.claim()
        server.delete(keys.host("h1"))
    server.rpush("inbox", "u-9")
    server.hset(keys.CONTROL, keys.paused("other"), "1")
    operation(server)
    (entry,) = audit.recent(server)
    assert (entry.actor, entry.action, entry.count) == (WHO, action, count)
    assert entry.target == target


@pytest.mark.parametrize(
    "operation",
    [
        lambda s: lists.pause(s, [], actor=WHO),
        lambda s: lists.resume(s, ["inbox"], actor=WHO),
        lambda s: items.cancel(s, "u-9", actor=WHO),
        lambda s: reclaim.reclaim(s, actor=WHO),
        lambda s: requeue(s, dry_run=True),
        purge,
    ],
)
def test_what_changes_nothing_leaves_no_entry(
    server: Any, operation: Callable[[Any], None]
) -> None:
    """Neither a dry run nor an operation that found nothing."""
    server.rpush("inbox", "u-1")
    Consumer(server).dead_letter(reason="rejected", error="e")
    operation(server)
    assert audit.recent(server) == []


def test_the_list_keeps_the_newest(server: Any) -> None:
    """The newest comes first, old ones go, and what another program wrote is passed over."""
    for number in range(audit.KEEP + 3):
        audit.record(server, WHO, "pause", {}, number)
    assert server.llen(keys.AUDIT) == audit.KEEP
    assert [entry.count for entry in audit.recent(server, 2)] == [audit.KEEP + 2, audit.KEEP + 1]
    server.rpush(keys.AUDIT, "junk", "[]", "{}")
    assert [entry.count for entry in audit.recent(server, 4)] == [audit.KEEP + 2]
    assert audit.recent(server, 0) == []


def test_who_has_cancelled_a_vcon_last(server: Any) -> None:
    server.rpush("inbox", "u-1", "u-2")
    Consumer(server)
    for actor in ("first", "last"):
        server.rpush("inbox", "u-1")
        items.cancel(server, "u-1", actor=actor, configured=["inbox"])
    lists.pause(server, ["u-2"], actor=WHO)
    found = audit.latest_cancel(server, "u-1")
    assert found is not None
    assert found.actor == "last"
    assert audit.latest_cancel(server, "u-2") is None


def test_an_operation_does_not_fail_for_its_entry(server: Any) -> None:
    """As in a Redis that is full: the list is paused, and the entry is missing."""
    server.set(keys.AUDIT, "another program's")
    assert lists.pause(server, ["inbox"], actor=WHO).paused == ["inbox"]
    assert lists.paused(server) == ["inbox"]


def test_entries_have_no_secrets(server: Any) -> None:
    """A filter may quote an error with a password in it."""
    audit.record(server, WHO, "requeue", {"error": "http://u:pa55@h"}, 1)
    assert b"pa55" not in server.lindex(keys.AUDIT, 0)


def test_a_process_with_a_log_logs_it(redis_url: str, server: Any) -> None:
    """A command, which has none, prints nothing; the API does."""
    code = """
import sys
from conserver.operations import lists
from conserver.queue import keys
from conserver.queue.clients import client
from conserver.telemetry import log
with client(sys.argv[1]) as server:
    lists.pause(server, ["quiet"], actor="me")
    log.configure("api", shape="json")
    lists.pause(server, ["loud"], actor="me")
    server.set(keys.AUDIT, "x")
    lists.resume(server, ["loud"], actor="me")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, redis_url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=90,
        check=True,
    )
    paused, resumed, lost = (orjson.loads(line) for line in done.stdout.splitlines())
    assert (paused["event"], paused["level"]) == ("operator_action", "info")
    assert (paused["actor"], paused["action"], paused["count"]) == ("me", "pause", 1)
    assert paused["target"] == {"lists": ["loud"]}
    assert resumed["event"] == "operator_action"
    assert lost["event"] == "audit_entry_lost"
