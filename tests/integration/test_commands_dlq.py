"""`conserver dlq`: dead letters listed, shown, sent to work again and forgotten."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from typing import Any

import pytest

from conserver.queue import keys
from conserver.queue.names import name_of
from tests.command_line import ROOT, Command
from tests.operators import Consumer, vcon


def test_dead_letters_are_listed_and_filtered(conserver: Command, server: Any) -> None:
    """By list, error, place, reason and age; counted by kind; shown with their tracebacks."""
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2")
    consumer.dead_letter(
        reason="failed", link="mark", error="timed out\nsecond line", traceback="Traceback\n  x"
    )
    server.rpush("inbox", "u-3")
    old_ms = int(time.time() * 1000) - 7_200_000
    consumer.dead_letter(reason="rejected", storage="pg", error="NUL", time_ms=old_ms, attempts=1)
    server.rpush("DLQ:inbox", "u-4")

    def uuids(*words: str) -> list[str]:
        return [letter["uuid"] for letter in conserver.json("dlq", "list", *words)]

    assert sorted(uuids()) == ["u-1", "u-2", "u-3", "u-4"]
    assert uuids("--storage", "pg") == ["u-3"]
    assert sorted(uuids("--error", "TIMED")) == ["u-1", "u-2"]
    assert uuids("--reason", "rejected") == ["u-3"]
    assert uuids("--older", "1h") == ["u-3"]
    assert sorted(uuids("--newer", "1h", "--link", "mark")) == ["u-1", "u-2"]
    server.sadd(keys.LISTS, "other")
    assert uuids("--list", "other") == []
    assert len(uuids("--limit", "2")) == 2
    assert b"more than 2" in conserver("dlq", "list", "--limit", "2").stderr
    counts = {
        (row["count"], row["reason"], row["where"], row["error"])
        for row in conserver.json("dlq", "list", "--count")
    }
    assert counts == {
        (2, "failed", "mark", "timed out"),
        (1, "rejected", "pg", "NUL"),
        (1, "", "", ""),
    }
    text = conserver("dlq", "list").stdout.decode()
    assert "timed out" in text
    assert "second line" not in text
    shown = conserver("dlq", "show", "u-1").stdout.decode()
    assert "Traceback\n  x" in shown
    assert "link: mark" in shown
    assert conserver("dlq", "show", "u-9").returncode == 1
    assert b"no regular expression" in conserver("dlq", "list", "--error", "(").stderr


def test_dead_letters_are_requeued(conserver: Command, server: Any) -> None:
    """Those that match go back to work, the others stay; silence is not `all`."""
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2", "u-3")
    consumer.dead_letter(reason="failed", error="e")
    server.rpush("DLQ:inbox", "bare")
    assert conserver("dlq", "requeue").returncode == 2
    answer = conserver.json("dlq", "requeue", "u-1", "--dry-run")
    assert answer == {"requeued": 0, "matching": 1, "dry_run": True}
    assert server.llen("DLQ:inbox") == 4
    assert conserver.json("dlq", "requeue", "u-1")["requeued"] == 1
    assert server.llen("conserver:returned:inbox") == 1
    assert conserver.json("dlq", "requeue", "--all", "--limit", "1")["requeued"] == 1
    assert conserver.json("dlq", "requeue", "--all")["requeued"] == 2
    assert server.llen("DLQ:inbox") == 0
    assert server.zcard("conserver:dead:inbox") == 0
    assert server.lrange("inbox", 0, -1) == [b"bare"]
    assert len(consumer.claim()) == 4


def test_dead_letters_are_purged(conserver: Command, server: Any) -> None:
    """What matches is gone for good, with its reason."""
    server.rpush("inbox", "u-1", "u-2")
    Consumer(server).dead_letter(reason="failed", error="e")
    assert conserver.json("dlq", "purge", "u-1")["purged"] == 1
    assert server.lrange("DLQ:inbox", 0, -1) == [b"u-2"]
    assert server.zcard("conserver:dead:inbox") == 1
    assert conserver.json("dlq", "purge", "--reason", "poison")["purged"] == 0
    assert conserver.json("dlq", "purge", "--older", "0s")["purged"] == 1
    assert server.exists("DLQ:inbox", "conserver:dead:inbox") == 0


def test_a_letter_that_is_not_there_is_no_success(conserver: Command, server: Any) -> None:
    """Whoever names one is told that it is none; filters may match nothing."""
    for words in (["requeue", "u-9"], ["purge", "u-9"], ["requeue", "u-9", "--dry-run"]):
        done = conserver("dlq", *words)
        assert done.returncode == 1
        assert b"no dead letter of u-9" in done.stderr
    done = conserver("dlq", "requeue", "--reason", "poison")
    assert (done.returncode, done.stdout) == (0, b"0 requeued\n")
    assert b"no dead letters that match" in done.stderr
    done = conserver("dlq", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"no dead letters\n")
    done = conserver("dlq", "list", "--reason", "poisson")
    assert done.returncode == 2
    assert b"did you mean `poison`?" in done.stderr


def test_a_document_that_was_pushed_whole_is_found_by_its_uuid(
    conserver: Command, server: Any
) -> None:
    """Its worker may have died before anybody read it: the payload is all there is."""
    server.rpush("DLQ:inbox", vcon("u-1"), b"{no vCon", b"\x1b]0;title\x07")
    server.sadd(keys.LISTS, "inbox")
    assert conserver("dlq", "show", "u-1").returncode == 0
    text = conserver("dlq", "list").stdout
    assert b"u-1" in text
    assert name_of(b"{no vCon").encode() in text
    assert "\ufffd]0;title\ufffd".encode() in text
    assert b"\x1b" not in text
    assert conserver.json("dlq", "requeue", "u-1")["requeued"] == 1
    assert server.lrange("inbox", 0, -1) == [vcon("u-1")]


def test_equal_causes_count_as_one(conserver: Command, server: Any) -> None:
    """Errors that differ by the vCon they name are of one kind."""
    consumer = Consumer(server)
    for uuid in ("0199e0a4-7c1e-8b3a-9f11-000000000001", "0199e0a4-7c1e-8b3a-9f11-000000000002"):
        server.rpush("inbox", uuid)
        consumer.dead_letter(reason="rejected", error=f"vcon:{uuid} does not exist")
    (row,) = conserver.json("dlq", "list", "--count")
    assert (row["count"], row["error"]) == (2, "vcon:<uuid> does not exist")


def test_show_begins_with_what_one_asks_first(conserver: Command, server: Any) -> None:
    """When it died as people say it, and the traceback last."""
    server.rpush("inbox", "u-1")
    Consumer(server).dead_letter(
        reason="failed", error="e", traceback="Traceback\n  x", link="mark"
    )
    lines = conserver("dlq", "show", "u-1").stdout.decode().splitlines()
    assert lines[0].startswith("died: 20")
    assert lines[0].endswith("s ago")
    assert lines[1] == "uuid: u-1"
    assert lines[-3:] == ["traceback:", "Traceback", "  x"]


def test_names_that_nothing_has_are_told(conserver: Command, server: Any) -> None:
    """A list that nobody has taken from, a link that killed nothing: they may be misspelt."""
    server.rpush("inbox", "u-1")
    Consumer(server).dead_letter(reason="failed", link="mark", type="SystemExit", error="4")
    assert b"SystemExit: 4" in conserver("dlq", "list").stdout
    server.rpush("inbux", "u-2")
    said = conserver("dlq", "show", "u-1", "--list", "inbix").stderr
    assert b"there is no list inbix (did you mean `inbox`?)" in said
    for words in (["list"], ["list", "--count"], ["requeue"]):
        said = conserver("dlq", *words, "--list", "inbux").stderr
        assert b"nobody has ever taken from inbux (did you mean `inbox`?)" in said
        said = conserver("dlq", *words, "--link", "mody").stderr
        assert b"that match; none failed in mody (" in said
    said = conserver("dlq", "list", "--link", "mark", "--reason", "poison").stderr
    assert said == b"no dead letters that match\n"
    assert conserver("dlq", "requeue", "--link", "markk").stderr.endswith(b"`mark`?)\n")


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b'{"vcon":"0.4.0","uuid":"u-1","dialog":"text"}', "u-1"),
        (b'{"uuid":"u-1","parties":[{"tel":"+1202', "u-1"),
        (b"no uuid at all", "no uuid at all"),
        (b'{"parties":[]}', ""),
    ],
    ids=["no vcon", "cut short", "no document", "no uuid"],
)
def test_what_is_no_vcon_is_found_by_the_name_that_is_shown(
    conserver: Command, server: Any, payload: bytes, name: str
) -> None:
    """Every command takes the name that the log, `dlq list` and all others show."""
    server.rpush("inbox", payload)
    Consumer(server).dead_letter(reason="rejected", error="not a vCon")
    (listed,) = conserver.json("dlq", "list")
    assert listed["uuid"] == name_of(payload)
    assert listed["uuid"].startswith(name)
    name = listed["uuid"]
    (shown,) = conserver.json("dlq", "show", name)
    assert shown["error"] == "not a vCon"
    done = conserver("get", name)
    told = f"a dead letter of inbox: see conserver dlq show {shlex.quote(name)}"
    assert told.encode() in done.stderr
    assert done.stdout == (payload if payload[:1] == b"{" else b"")
    assert conserver.json("dlq", "requeue", name)["requeued"] == 1
    assert conserver("get", name).stdout == done.stdout
    cancelled = conserver.json("cancel", name)
    assert cancelled["queued"] + cancelled["returned"] == 1
    server.rpush("DLQ:inbox", payload)
    assert conserver.json("dlq", "purge", name)["purged"] == 1
    assert conserver("get", name).returncode == 1


@pytest.mark.parametrize(
    ("answer", "words", "left"),
    [
        (b"n\n", [], 2),
        (b"\n", [], 2),
        (b"y\n", [], 0),
        (b"", ["--yes"], 0),
        (b"", ["--dry-run"], 2),
    ],
)
def test_a_terminal_is_asked_before_everything_is_purged(
    redis_url: str, server: Any, answer: bytes, words: list[str], left: int
) -> None:
    server.rpush("inbox", "u-1", "u-2")
    Consumer(server).dead_letter(reason="failed", error="e")
    terminal, end = os.openpty()
    try:
        os.write(terminal, answer)
        done = subprocess.run(
            [sys.executable, "-m", "conserver", "dlq", "purge", "--all", *words],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": redis_url},
            stdin=end,
            capture_output=True,
            timeout=90,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(end)
    assert server.llen(keys.dead_letters("inbox")) == left
    asked = b"2 dead letters will be gone for good" in done.stderr
    assert asked == (not words)
    assert done.returncode == (1 if answer in (b"n\n", b"\n") else 0)
