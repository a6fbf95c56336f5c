"""The commands that look after queues, on a real Redis, without a daemon in the way."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import redis

from conserver.queue import calls
from conserver.queue.connection import client as connect
from tests.command_line import ROOT, Command

CONFIG = """
links: {mark: {module: links.tag, options: {tags: [a]}}}
chains:
  main: {links: [mark], ingress_lists: [inbox], egress_lists: [done]}
"""


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


class Consumer:
    """A consumer by hand: registered, it claims what is there and moves it."""

    def __init__(self, server: Any, host: str = "h1") -> None:
        self.server, self.host, self.id, self.number = server, host, uuid4().hex[:16], 0
        calls.run(server, calls.register(host, self.id, ["inbox"]))

    def claim(self) -> list[Any]:
        self.number += 1
        call = calls.claim(
            self.host,
            self.id,
            self.number,
            True,
            [calls.Demand("inbox", 100, 3)],
            calls.ClaimLimits(),
        )
        return calls.read_claim(calls.run(self.server, call)).items

    def bury(self, **why: Any) -> None:
        """Makes dead letters of all that can be claimed."""
        moves = []
        for item in self.claim():
            told = {"uuid": item.payload.decode(), "time_ms": int(time.time() * 1000), **why}
            moves.append(calls.Move(item.token, item.epoch, why=orjson.dumps(told)))
        calls.run(self.server, calls.dead_letter(self.id, moves, 3600))

    def park(self) -> None:
        moves = [calls.Move(item.token, item.epoch, after_ms=60_000) for item in self.claim()]
        calls.run(self.server, calls.park(self.id, moves))


def vcon(uuid: str) -> bytes:
    return orjson.dumps(
        {"vcon": "0.4.0", "uuid": uuid, "created_at": "2026-01-01T00:00:00Z", "parties": []}
    )


def test_submit_files_and_folders(conserver: Command, server: Any, tmp_path: Path) -> None:
    """Files, folders and lines of JSON end up as documents and uuids; what is no vCon does not."""
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "a.json").write_bytes(vcon("u-a"))
    (folder / "b.vcon").write_bytes(vcon("u-b"))
    (folder / "notes.txt").write_bytes(b"not looked at")
    (tmp_path / "lines.jsonl").write_bytes(vcon("u-c") + b"\n" + vcon("u-d") + b"\n")
    answer = conserver.json("submit", str(folder), str(tmp_path / "lines.jsonl"))
    assert [item["uuid"] for item in answer["items"]] == ["u-a", "u-b", "u-c", "u-d"]
    assert server.lrange("inbox", 0, -1) == [b"u-a", b"u-b", b"u-c", b"u-d"]
    assert server.get("vcon:u-b") == vcon("u-b")
    (folder / "c.json").write_bytes(b"{}")
    done = conserver("submit", str(folder / "c.json"), str(tmp_path / "none.json"), "--list", "x")
    assert done.returncode == 1
    assert b"c.json: not a vCon" in done.stderr
    assert b"none.json: cannot be read" in done.stderr
    assert server.llen("x") == 0


def test_submit_from_standard_input(redis_url: str, server: Any) -> None:
    """`-` reads one document, however many lines it has."""
    text = orjson.dumps(orjson.loads(vcon("u-1")), option=orjson.OPT_INDENT_2)
    subprocess.run(
        [sys.executable, "-m", "conserver", "submit", "-", "--list", "other"],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_url},
        input=text,
        timeout=30,
        check=True,
    )
    assert server.lrange("other", 0, -1) == [b"u-1"]


def test_submit_wants_to_know_which_list(conserver: Command, tmp_path: Path) -> None:
    """With several lists one has to be named; with one it is clear."""
    path = tmp_path / "two.yml"
    path.write_text("chains: {a: {ingress_lists: [x, y]}}", encoding="utf-8")
    done = conserver("submit", "-", "-c", str(path))
    assert done.returncode == 2
    assert b"has x, y" in done.stderr


def test_submit_waits_for_what_becomes_of_it(
    conserver: Command, server: Any, tmp_path: Path
) -> None:
    """--wait ends in time and says that an item waits; a dead one is told with its reason."""
    path = tmp_path / "a.json"
    path.write_bytes(vcon("u-a"))
    done = conserver("submit", str(path), "--wait", "--timeout", "0.4", "--json")
    assert done.returncode == 1
    assert orjson.loads(done.stdout)["items"][0]["outcome"] == "waiting"
    Consumer(server).bury(reason="failed", link="mark", error="no luck\nat all")
    server.rpush("DLQ:inbox", "u-a")
    done = conserver("submit", str(path), "--wait", "--timeout", "5", "--json")
    (item,) = orjson.loads(done.stdout)["items"]
    assert (item["outcome"], item["detail"]) == ("dead", "failed: mark: no luck")


def test_get(conserver: Command, server: Any) -> None:
    """A document is printed as it is; what nobody has is code 1."""
    server.set("vcon:u-1", vcon("u-1"))
    assert conserver("get", "u-1").stdout == vcon("u-1") + b"\n"
    assert conserver.json("get", "u-1")["uuid"] == "u-1"
    done = conserver("get", "u-2")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"u-2 is in none of the places" in done.stderr
    assert b"no storage `nope`" in conserver("get", "u-1", "--from", "nope").stderr


def test_pause_and_resume(conserver: Command, server: Any) -> None:
    """A paused list gives nothing; resuming without names ends every pause."""
    server.rpush("inbox", "u-1")
    consumer = Consumer(server)
    assert conserver.json("pause") == {"paused": ["inbox"]}
    assert consumer.claim() == []
    assert conserver.json("status")["lists"][0]["paused"] is True
    assert b"nobody has ever taken from typo" in conserver("pause", "typo").stderr
    assert conserver.json("resume") == {"resumed": ["inbox", "typo"]}
    assert len(consumer.claim()) == 1
    assert b"other was not paused" in conserver("resume", "other").stderr


def test_drain_waits_for_what_is_in_flight(conserver: Command, server: Any) -> None:
    """It ends with 0 once nothing is held, and with 1 while something is; all is paused."""
    assert conserver.json("drain") == {"paused": ["inbox"], "in_flight": 0}
    conserver("resume")
    server.rpush("inbox", "u-1")
    Consumer(server).claim()
    done = conserver("drain", "--timeout", "0.3")
    assert done.returncode == 1
    assert b"1 items are still in flight" in done.stderr


def test_cancel(conserver: Command, server: Any) -> None:
    """Copies are taken out wherever they wait; one that runs is told so."""
    server.rpush("inbox", "u-1", "u-2")
    consumer = Consumer(server)
    consumer.park()
    server.rpush("inbox", "u-1", "u-1")
    assert conserver.json("cancel", "u-1") == {
        "uuid": "u-1",
        "queued": 2,
        "returned": 0,
        "parked": 1,
        "running": 0,
    }
    assert server.llen("inbox") == 0
    assert server.zcard("conserver:parked:inbox") == 1
    server.rpush("inbox", "u-3")
    consumer.claim()
    assert conserver.json("cancel", "u-3")["running"] == 1
    assert conserver("cancel", "u-9").returncode == 1


def test_dead_letters_are_listed_and_filtered(conserver: Command, server: Any) -> None:
    """By list, error, place, reason and age; counted by kind; shown with their tracebacks."""
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2")
    consumer.bury(
        reason="failed", link="mark", error="timed out\nsecond line", traceback="Traceback\n  x"
    )
    server.rpush("inbox", "u-3")
    old_ms = int(time.time() * 1000) - 7_200_000
    consumer.bury(reason="rejected", storage="pg", error="NUL", time_ms=old_ms, attempts=1)
    server.rpush("DLQ:inbox", "u-4")

    def uuids(*words: str) -> list[str]:
        return [letter["uuid"] for letter in conserver.json("dlq", "list", *words)]

    assert sorted(uuids()) == ["u-1", "u-2", "u-3", "u-4"]
    assert uuids("--storage", "pg") == ["u-3"]
    assert sorted(uuids("--error", "TIMED")) == ["u-1", "u-2"]
    assert uuids("--reason", "rejected") == ["u-3"]
    assert uuids("--older", "1h") == ["u-3"]
    assert sorted(uuids("--newer", "1h", "--link", "mark")) == ["u-1", "u-2"]
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
    consumer.bury(reason="failed", error="e")
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
    Consumer(server).bury(reason="failed", error="e")
    assert conserver.json("dlq", "purge", "u-1")["purged"] == 1
    assert server.lrange("DLQ:inbox", 0, -1) == [b"u-2"]
    assert server.zcard("conserver:dead:inbox") == 1
    assert conserver.json("dlq", "purge", "--reason", "poison")["purged"] == 0
    assert conserver.json("dlq", "purge", "--older", "0s")["purged"] == 1
    assert server.exists("DLQ:inbox", "conserver:dead:inbox") == 0


def beat(server: Any, *, name: str = "", age_s: float = 0, state: str = "running") -> None:
    """A host tells what a steward tells."""
    workers = [
        {
            "slot": 1,
            "pid": 11,
            "state": "working",
            "restarts": 2,
            "done": 40,
            "failed": 1,
            "held": 1,
            "rss_bytes": 50 << 20,
            "items": [
                {"uuid": "u-7", "chain": "main", "link": "mark", "phase": "running", "since_s": 130}
            ],
        }
    ]
    fields: dict[str, str | bytes | int] = {
        "name": name or socket.gethostname(),
        "version": "0.1.0",
        "lease_s": "30",
        "pid": 10,
        "state": state,
        "lists": orjson.dumps(["inbox"]),
        "workers": orjson.dumps(workers),
    }
    at_ms = int((time.time() - age_s) * 1000)
    calls.run(server, calls.beat("h1", f"{at_ms}.1", fields))


def test_health(conserver: Command, server: Any) -> None:
    """Healthy is a fresh beat of this machine with a worker that claims; else it says why."""
    assert conserver("health").returncode == 1
    beat(server)
    assert conserver("health").returncode == 0
    assert conserver.json("health")["healthy"] is True
    beat(server, state="draining")
    assert b"it is draining" in conserver("health").stderr
    beat(server, age_s=60)
    done = conserver("health")
    assert done.returncode == 1
    assert b"60 s old" in done.stderr
    beat(server, name="elsewhere")
    assert b"it runs nothing" in conserver("health").stderr


def test_status(conserver: Command, server: Any) -> None:
    """Lists with their depths, hosts with their workers and what they are at; wrong types too."""
    beat(server)
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2")
    consumer.bury(reason="failed", error="e")
    server.rpush("inbox", "u-3")
    server.set("odd", "not a list")
    server.sadd(calls.LISTS, "odd")
    found = conserver.json("status")
    inbox, odd = found["lists"]
    assert (inbox["name"], inbox["queued"], inbox["dead"], inbox["served"]) == ("inbox", 1, 2, True)
    assert (odd["name"], odd["queued"], odd["served"]) == ("odd", None, False)
    (host,) = found["hosts"]
    assert host["consumes"] is True
    assert found["done"] == 40
    text = conserver("status").stdout.decode()
    assert "u-7 in main/mark for 2 min" in text
    assert "nobody serves it" in text
    assert "not a list" in text


def test_status_without_a_configuration(conserver: Command, server: Any) -> None:
    """Whoever looks after a system from elsewhere sees the lists that were ever served."""
    server.sadd(calls.LISTS, "calls")
    done = conserver("status", "--json", "-c", "nowhere.yml")
    assert done.returncode == 0
    assert [entry["name"] for entry in orjson.loads(done.stdout)["lists"]] == ["calls"]
    assert b"warning: nowhere.yml cannot be used" in done.stderr


def test_doctor(conserver: Command) -> None:
    """Each subject is looked at, and a server without persistence is warned of."""
    found = conserver.json("doctor")
    subjects = {finding["subject"] for finding in found["findings"]}
    assert {"version", "role", "persistence", "eviction", "rights", "clock"} <= subjects
    assert found["ok"]


def test_doctor_on_a_server_that_loses_items(private: Any, conserver: Command) -> None:
    """Eviction and missing rights are wrong, with the remedy, and the exit code says so."""
    from servers import Redis

    other = private(Redis({"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}))
    other.ask("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-blmove", "-hvals")
    done = conserver("doctor", "--json", REDIS_URL=other.url.replace("//", "//poor:x@"))
    assert done.returncode == 1
    found = {finding["subject"]: finding for finding in orjson.loads(done.stdout)["findings"]}
    assert found["eviction"]["level"] == "wrong"
    assert "noeviction" in found["eviction"]["advice"]
    assert found["rights"]["text"] == "user poor may not call blmove, hvals"
    assert found["rights"]["advice"] == "ACL SETUSER poor +blmove +hvals"
    assert found["persistence"]["level"] == "warning"


def test_check_connect(conserver: Command) -> None:
    """Redis is asked, and its version told."""
    done = conserver("check", "--connect")
    assert done.returncode == 0
    assert b"redis: answers, version" in done.stdout
