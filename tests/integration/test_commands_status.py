"""`conserver status` and `health`: what they tell of lists, hosts and workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from conserver.queue import calls, history, keys, script
from conserver.queue.record import Progress
from tests.command_line import ROOT, Command
from tests.helpers import ended, eventually
from tests.operators import Consumer, beat


def test_health(conserver: Command, server: Any) -> None:
    """Healthy is a fresh beat of this machine with a worker that claims; else it says why."""
    assert conserver("health").returncode == 1
    beat(server)
    assert conserver("health").returncode == 0
    assert conserver.json("health")["healthy"] is True
    server.hset(keys.host("h1"), "lists", "[]")
    assert b"it serves no lists" in conserver("health").stderr
    beat(server, state="draining")
    assert b"it is draining" in conserver("health").stderr
    beat(server, age_s=60)
    done = conserver("health")
    assert done.returncode == 1
    assert re.search(rb"6\d s old", done.stderr)
    beat(server, name="elsewhere")
    assert b"it runs nothing" in conserver("health").stderr


def test_status(conserver: Command, server: Any) -> None:
    """Lists with their depths, hosts with their workers and what they are at; wrong types too."""
    beat(server)
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2")
    consumer.dead_letter(reason="failed", error="e")
    server.rpush("inbox", "u-3")
    server.set("odd", "not a list")
    server.sadd(keys.LISTS, "odd")
    server.rpush("conserver:parked:odd", "a list")
    found = conserver.json("status")
    inbox, odd = found["lists"]
    assert (inbox["name"], inbox["queued"], inbox["dead"], inbox["served"]) == ("inbox", 1, 2, True)
    assert (odd["name"], odd["queued"], odd["served"]) == ("odd", None, False)
    (host,) = found["hosts"]
    assert host["consumes"] is True
    assert found["done"] == 40
    text = conserver("status").stdout.decode()
    assert "u-7 in main/mark for 2 min" in text
    assert "u-6" not in text, "it only waits for a thread"
    assert "more" not in text.partition("u-7")[2].splitlines()[0]
    assert "in flight now" in text
    assert re.search(r"id h1, heartbeat \d+ s ago", text), "how old what stands below it is"
    files, pg = found["breakers"]
    assert files == {"storage": "files", "open": 0, "workers": 1, "since": None, "reason": ""}
    assert time.time() - 400 < pg.pop("since") < time.time() - 170
    reason = "password authentication failed"
    assert pg == {"storage": "pg", "open": 1, "workers": 1, "reason": reason}
    row = ["pg", "open", "1", "of", "1", "3", "min", *reason.split()]
    assert row in [line.split() for line in text.splitlines()]
    assert "nobody serves it" in text
    assert text.count("wrong type") == 2


def test_status_without_a_configuration(conserver: Command, server: Any) -> None:
    """Whoever looks after a system from elsewhere sees the lists that were ever served."""
    server.sadd(keys.LISTS, "calls")
    done = conserver("status", "--json", "-c", "nowhere.yml")
    assert done.returncode == 0
    assert [entry["name"] for entry in orjson.loads(done.stdout)["lists"]] == ["calls"]
    assert b"warning: nowhere.yml cannot be used" in done.stderr


def test_status_says_what_parked_items_wait_for(conserver: Command, server: Any) -> None:
    """A storage that is away is named where its items wait; a retry is no storage."""
    consumer = Consumer(server)
    server.rpush("inbox", "u-1", "u-2", "u-3")
    moves = [
        calls.Move(item.token, item.epoch, after_ms=60_000, state=progress.dump())
        for item, progress in zip(
            consumer.claim(),
            (Progress(owed=["pg"]), Progress(owed=["pg", "s3"]), Progress(attempts=1)),
            strict=True,
        )
    ]
    script.run(server, calls.move("park", consumer.id, moves))
    (inbox,) = conserver.json("status")["lists"]
    waits = inbox["waits"]
    assert (waits["sampled"], waits["storages"], waits["retries"]) == (3, {"pg": 2, "s3": 1}, 1)
    assert 0 < waits["due_in_s"] <= 60
    text = conserver("status").stdout.decode()
    assert "waits for storages pg, s3 and for retries, the next is due in" in text


def test_status_shows_what_works_for_all_workers(conserver: Command, server: Any) -> None:
    """Transcribers and page readers, with the pids that nothing else tells."""
    beat(server)
    transcriber = {"slot": 1, "pid": 21, "state": "working", "device": "CPU", "restarts": 4}
    transcriber |= {"windows": 7, "slots": 8, "busy": 8, "waiting": 2, "memory_bytes": 90 << 20}
    reader = {"slot": 2, "pid": 0, "state": "waiting", "restarts": 5, "pages": 3}
    told = {"transcribers": [transcriber], "page_readers": [reader]}
    server.hset(keys.host("h1"), "supervisor", orjson.dumps(told))
    lines = [" ".join(line.split()) for line in conserver("status").stdout.decode().splitlines()]
    assert "transcriber 1 21 working 90 4 8 of at most 8 calls, 2 more wait" in lines
    assert "page reader 2 waiting 5" in lines


def test_status_of_a_host_that_has_not_told_of_itself_yet(conserver: Command, server: Any) -> None:
    """Its coordinator beats before its supervisor has spoken: it starts, and has no pid 0."""
    beat(server, pid=0)
    lines = conserver("status").stdout.decode().splitlines()
    [beat_line] = [line for line in lines if "supervisor" in line]
    assert beat_line.split()[1:3] == ["supervisor", "starting"]


def test_status_shows_every_pause(conserver: Command, server: Any) -> None:
    """Also of a list that nobody has ever served: its name may be misspelt."""
    conserver("pause", "inbux", "--force")
    assert [entry["name"] for entry in conserver.json("status")["lists"]] == ["inbox", "inbux"]
    server.sadd(keys.LISTS, "inbox")
    assert b"(did you mean `inbox`?)" in conserver("pause", "inbux", "--force").stderr


def test_status_says_who_has_paused_a_list(conserver: Command, server: Any) -> None:
    """Versions before wrote the time alone; whoever wrote something else is not known."""
    server.rpush("inbox", "u-1")
    conserver("pause", "inbox")
    (inbox,) = conserver.json("status")["lists"]
    assert time.time() - 60 < inbox["paused_since"] <= time.time()
    assert "@" in inbox["paused_by"]
    assert f"paused by {inbox['paused_by']} for " in conserver("status").stdout.decode()
    before = str(int(time.time() * 1000) - 7_300_000)
    for value, said in ((before, b"paused for 2 h"), ("1", b"paused\n"), ("yes", b"paused\n")):
        server.hset(keys.CONTROL, keys.paused("inbox"), value)
        line = conserver("status").stdout.splitlines(keepends=True)[1]
        assert said.split()[0] in line
        assert said.rstrip() + b"; nobody serves it\n" in line


def test_status_says_what_is_wrong_and_what_to_do(conserver: Command, server: Any) -> None:
    """Below the tables, the worst first; a system where all is well has no such part."""
    beat(server)
    workers = orjson.loads(server.hget(keys.host("h1"), "workers"))
    server.hset(keys.host("h1"), "workers", orjson.dumps([workers[0] | {"away": []}]))
    assert b"wrong now" not in conserver("status").stdout
    consumer = Consumer(server)
    server.rpush("inbox", "u-1")
    consumer.dead_letter(reason="failed", error="e")
    text = conserver("status").stdout.decode()
    assert text.endswith(
        "wrong now, and what to do\n"
        "List inbox has 1 dead letter\n"
        "    `conserver dlq list --list inbox --count` says why; once that is mended, "
        "`conserver dlq requeue --list inbox`\n"
    )
    [finding] = conserver.json("status")["findings"]
    assert (finding["severity"], finding["list"]) == ("warning", "inbox")


def test_status_says_with_which_error_items_are_tried_again(
    conserver: Command, server: Any
) -> None:
    consumer = Consumer(server)
    names = [f"0199e0a4-7c1e-8b3a-9f11-0000000000{number:02}" for number in range(12)]
    server.rpush("inbox", *names)
    moves = [
        calls.Move(
            item.token,
            item.epoch,
            after_ms=60_000,
            state=Progress(attempts=1, error=f"CRM has no {name}").dump(),
        )
        for item, name in zip(consumer.claim(), names, strict=True)
    ]
    script.run(server, calls.move("park", consumer.id, moves))
    found = conserver.json("status")
    waits = found["lists"][0]["waits"]
    assert (waits["failed"], waits["error"]) == (12, "CRM has no <uuid>")
    assert b"waits for retries (CRM has no <uuid>), the next" in conserver("status").stdout
    assert any("tried again, 12: CRM has no <uuid>" in one["text"] for one in found["findings"])


def test_status_says_which_server_has_asked_to_wait(conserver: Command, server: Any) -> None:
    consumer = Consumer(server)
    server.rpush("inbox", "u-1")
    [item] = consumer.claim()
    state = Progress(rate_slots=["throttled:hook"]).dump()
    move = calls.Move(item.token, item.epoch, after_ms=60_000, state=state)
    script.run(server, calls.move("park", consumer.id, [move]))
    told = b"waits for the server of hook, which asked to wait, the next is due in"
    assert told in conserver("status").stdout


def test_one_look_says_when_all_is_drained(conserver: Command, server: Any) -> None:
    """At the rate that coordinators have written down; what nobody takes is left out."""
    beat(server)
    server.rpush("inbox", *(f"u-{number}" for number in range(120)))
    server.rpush("elsewhere", "u-1")
    server.sadd(keys.LISTS, "elsewhere")
    number = int(time.time()) // history.FINE.step_s
    values = [2.0 if field == "done_per_s" else 0.0 for field in history.FIELDS]
    for back in range(3):
        point = history.pack(number - back, values)
        server.setrange(history.FINE.key(""), history.FINE.offset(number - back), point)
    found = conserver.json("status")
    assert (found["rate_per_s"], found["drained_in_s"]) == (2.0, 60)
    assert b"2 per second, drained in 60 s" in conserver("status").stdout
    conserver("pause", "inbox")
    found = conserver.json("status")
    assert (found["rate_per_s"], found["drained_in_s"]) == (2.0, None)


def test_watching_goes_on_when_redis_has_been_away(private: Any, tmp_path: Path) -> None:
    """It says so, asks again, and shows what there is once Redis answers; Ctrl-C ends it."""
    from servers import Redis

    server = private(Redis())
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as shown, err.open("wb") as said:
        watching = subprocess.Popen(
            [sys.executable, "-m", "conserver", "status", "--watch", "0.1"],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": server.url},
            stdout=shown,
            stderr=said,
        )
        with ended(watching):
            eventually(lambda: out.read_bytes().count(b"in flight") > 1)
            server.stop()
            eventually(lambda: b"Redis does not answer, asking again" in err.read_bytes())
            server.start()
            before = len(out.read_bytes())
            eventually(lambda: b"in flight" in out.read_bytes()[before:])
            watching.send_signal(signal.SIGINT)
            code = watching.wait(90)
    assert code == 130
    # Each look is a paragraph of its own in a file, and begins with its time.
    looks = out.read_text(encoding="utf-8").split("\n\n")
    times = [look for look in looks if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\nlist", look)]
    whole = out.read_bytes().count(b"in flight")
    assert whole <= len(times) <= whole + 1, "Ctrl-C may cut the last one short"


@pytest.mark.parametrize("words", [["status"], ["pause", "inbox"], ["dlq", "list"]])
def test_a_key_of_the_wrong_type_is_named(
    conserver: Command, server: Any, words: list[str]
) -> None:
    """Redis does not say which it is: the command does, and what to do."""
    server.sadd(keys.LISTS, "inbox")
    server.rpush("DLQ:inbox", "u-1")
    for key in (keys.CONTROL, "conserver:dead:inbox"):
        server.set(key, "oops")
    done = conserver(*words)
    assert done.returncode == 1
    assert b"conserver:control is a string and must be a hash: rename or delete it" in done.stderr
    assert b"conserver:dead:inbox is a string and must be a zset" in done.stderr
    found = orjson.loads(conserver("doctor", "--json").stdout)["findings"]
    texts = [finding["text"] for finding in found if finding["subject"] == "keys"]
    assert "conserver:control is a string and must be a hash" in texts


def test_junk_among_the_parked_does_not_end_a_look(conserver: Command, server: Any) -> None:
    """Whatever another program has put there."""
    server.sadd(keys.LISTS, "inbox")
    server.zadd("conserver:parked:inbox", {"junk": 1, b"\x01junk": 2})
    (inbox,) = conserver.json("status")["lists"]
    assert inbox["parked"] == 2
    assert b"the next is due now" in conserver("status").stdout


def test_a_host_that_has_told_nothing_of_itself(conserver: Command, server: Any) -> None:
    """It is registered, and has not beaten: it shows by its id."""
    Consumer(server, host="h9")
    shown = conserver("status").stdout.decode()
    assert "h9" in shown
    assert "has not beaten yet" in shown
    assert "silent" not in shown


def test_a_worker_that_has_ended_in_a_drain_waits_for_nothing(
    conserver: Command, server: Any
) -> None:
    for state, shown in (("draining", "ended"), ("running", "waiting")):
        beat(server, state=state)
        workers = [{"slot": 1, "pid": 0, "state": "waiting", "done": 4, "held": 0}]
        server.hset(keys.host("h1"), "workers", orjson.dumps(workers))
        (row,) = [line for line in conserver("status").stdout.splitlines() if b"worker 1" in line]
        assert row.split()[:3] == [b"worker", b"1", shown.encode()]
