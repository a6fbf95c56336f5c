"""The commands that look after queues, on a real Redis, without a daemon in the way."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

import conserver as package
from conserver.queue import cancellation, host_calls, keys, script
from conserver.queue.clients import client as connect
from tests.command_line import ROOT, Command
from tests.helpers import ended, eventually
from tests.operators import Consumer, beat, vcon


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
    pushed = [f"{item['uuid']}#{item['job']}".encode() for item in answer["items"]]
    assert server.lrange("inbox", 0, -1) == pushed
    assert server.get("vcon:u-b") == vcon("u-b")
    (folder / "c.json").write_bytes(b"{}")
    done = conserver(
        "submit", str(folder / "c.json"), str(tmp_path / "none.json"), "--list", "x", "--force"
    )
    assert done.returncode == 1
    assert b"c.json: not a vCon" in done.stderr
    assert b"none.json: cannot be read" in done.stderr
    assert server.llen("x") == 0


def test_submit_tells_a_recording_by_its_content_and_what_it_passes_over(
    conserver: Command, server: Any, tmp_path: Path
) -> None:
    """Whatever it is called; and headerless audio by a name that tells its format."""
    folder = tmp_path / "calls"
    folder.mkdir()
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    for name in ("a", "b.recording", "c.WAV"):
        (folder / name).write_bytes(made.getvalue())
    (folder / "d.ulaw").write_bytes(bytes(800))
    (folder / "e.sln").write_bytes(bytes(800))
    (folder / "f.pdf").write_bytes(b"%PDF-1.7")
    (folder / "g.wav").touch()
    (folder / "h.jsonl").write_bytes(vcon("u-1") + b"\n" + vcon("u-2"))
    done = conserver("submit", str(folder), "--list", "in", "--force", "--json")
    assert done.returncode == 1
    assert b"passed over, neither vCon nor known audio: e.sln, f.pdf" in done.stderr
    assert b"g.wav: the recording is empty (0 bytes)" in done.stderr
    taken = [item for item in orjson.loads(done.stdout)["items"] if item["uuid"]]
    kinds = [
        orjson.loads(server.get(f"vcon:{item['uuid']}"))["dialog"][0]["mediatype"]
        for item in taken[:4]
    ]
    assert kinds == ["audio/wav"] * 3 + ["audio/pcmu"]
    assert [item["uuid"] for item in taken[4:]] == ["u-1", "u-2"]
    done = conserver("submit", str(folder / "e.sln"), "--list", "in", "--force")
    assert done.returncode == 1
    assert b"e.sln: neither a vCon (it is not JSON) nor audio of a known format" in done.stderr
    assert server.llen("in") == 6


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_cannot_show_is_replaced(
    redis_url: str, server: Any, encoding: str
) -> None:
    """Tables cut with an ellipsis, and lists may have any name."""
    server.sadd(keys.LISTS, "anrufe_k\u00f6ln")
    server.rpush("anrufe_k\u00f6ln", "u-1")
    server.rpush("DLQ:anrufe_k\u00f6ln", "\u4e2d\u6587" * 50)
    environment = {**os.environ, "REDIS_URL": redis_url, "PYTHONIOENCODING": encoding}
    environment |= {"COLUMNS": "60"}
    shown = "anrufe_k\u00f6ln".encode(encoding, "replace")
    for words in (["status"], ["dlq", "list"], ["dlq", "list", "--count"]):
        done = subprocess.run(
            [sys.executable, "-m", "conserver", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            timeout=90,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == 0, done
        assert shown in done.stdout


def test_what_is_not_utf8_is_told_and_breaks_nothing(
    conserver: Command, server: Any, tmp_path: Path
) -> None:
    """Names of files may be any bytes; names of lists, vCons and jobs are UTF-8."""
    folder = tmp_path / "calls"
    folder.mkdir()
    odd = os.fsdecode(b"caf\xe9")
    with wave.open(str(folder / f"{odd}.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    (folder / f"{odd}.json").write_bytes(vcon("u-1"))
    (folder / f"{odd}.txt").write_bytes(b"no vCon")
    made = conserver.json("submit", str(folder), "--list", "inbox")["items"]
    assert [Path(item["source"]).name for item in made] == ["caf\ufffd.json", "caf\ufffd.wav"]
    document = orjson.loads(server.get(f"vcon:{made[1]['uuid']}"))
    assert (document["subject"], document["dialog"][0]["filename"]) == (
        "caf\ufffd",
        "caf\ufffd.wav",
    )
    for words in (["get"], ["pause"], ["resume"], ["jobs", "show"], ["dlq", "list", "--list"]):
        done = conserver(*words, odd)
        assert (done.returncode, done.stdout) == (2, b""), words
        assert b"an argument is not UTF-8" in done.stderr


def test_submit_from_standard_input(redis_url: str, server: Any) -> None:
    """`-` reads one document, however many lines it has."""
    text = orjson.dumps(orjson.loads(vcon("u-1")), option=orjson.OPT_INDENT_2)
    subprocess.run(
        [sys.executable, "-m", "conserver", "submit", "-", "--list", "other", "--force"],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": redis_url},
        input=text,
        timeout=90,
        check=True,
    )
    (pushed,) = server.lrange("other", 0, -1)
    assert pushed.startswith(b"u-1#")


def test_cancel_finds_what_waits_on_a_list_that_nobody_has_served(
    conserver: Command, server: Any, tmp_path: Path
) -> None:
    path = tmp_path / "one.yml"
    path.write_text("chains: {a: {ingress_lists: [unserved]}}", encoding="utf-8")
    server.rpush("unserved", "u-a", "u-b")
    assert conserver("cancel", "u-a", CONSERVER_CONFIG_FILE=str(path)).returncode == 0
    assert server.lrange("unserved", 0, -1) == [b"u-b"]


@pytest.mark.parametrize("at", ["2999-01-01T00:00", "2999-01-01T00:00:00+02:00", "9000w"])
def test_submit_for_later_parks(conserver: Command, server: Any, tmp_path: Path, at: str) -> None:
    (tmp_path / "a.json").write_bytes(vcon("u-a"))
    answer = conserver.json("submit", str(tmp_path / "a.json"), "--list", "inbox", "--at", at)
    job = answer["items"][0]["job"]
    assert server.llen("inbox") == 0
    assert server.zcard("conserver:parked:inbox") == 1
    assert conserver.json("jobs", "show", job)["status"] == "waiting"
    conserver.json("jobs", "cancel", job)
    assert server.zcard("conserver:parked:inbox") == 0


@pytest.mark.parametrize(
    "at",
    ["soon", "999999999d", "9" * 400 + "d", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59"],
)
def test_submit_refuses_times_that_are_none(conserver: Command, tmp_path: Path, at: str) -> None:
    """And those that no calendar has."""
    (tmp_path / "a.json").write_bytes(vcon("u-a"))
    done = conserver("submit", str(tmp_path / "a.json"), "--list", "inbox", "--at", at)
    assert done.returncode == 2
    assert f"--at {at}: neither a moment".encode() in done.stderr


@pytest.mark.parametrize("text", ["[" * 100_000, '{"vcon":' * 100_000, "[[], " * 100_000])
def test_submit_refuses_what_is_nested_too_deeply(
    conserver: Command, server: Any, tmp_path: Path, text: str
) -> None:
    (tmp_path / "deep.json").write_text(text)
    done = conserver("submit", str(tmp_path / "deep.json"), "--list", "inbox")
    assert done.returncode == 1
    assert b"refused: " in done.stderr
    assert b"deep.json: not a vCon" in done.stderr
    assert server.llen("inbox") == 0


def test_submit_with_a_priority(conserver: Command, server: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(vcon("u-a"))
    path = tmp_path / "two.yml"
    text = "chains: {a: {ingress_lists: [x, y], priorities: {high: y}}}"
    path.write_text(text, encoding="utf-8")
    words = ("submit", str(tmp_path / "a.json"), "-c", str(path), "--list", "x", "--priority")
    assert conserver(*words, "high").returncode == 0
    assert server.llen("y") == 1
    done = conserver(*words, "low")
    assert done.returncode == 2
    assert b"--priority `low`: it has high" in done.stderr


def test_submit_wants_to_know_which_list(conserver: Command, tmp_path: Path) -> None:
    """With several lists one has to be named; with one it is clear."""
    path = tmp_path / "two.yml"
    path.write_text("chains: {a: {ingress_lists: [x, y]}}", encoding="utf-8")
    done = conserver("submit", "-", "-c", str(path))
    assert done.returncode == 2
    assert b"has x, y" in done.stderr


def test_submit_waits_for_what_becomes_of_it(
    conserver: Command, server: Any, redis_url: str, tmp_path: Path
) -> None:
    """--wait ends in time and says that an item waits; a dead one is told with its reason."""
    path = tmp_path / "a.json"
    path.write_bytes(vcon("u-a"))
    done = conserver("submit", str(path), "--wait", "--timeout", "0.4", "--json")
    assert done.returncode == 1
    assert orjson.loads(done.stdout)["items"][0]["outcome"] == "waiting"
    assert b"--timeout is over" in done.stderr
    with dead_lettered_soon(redis_url, reason="failed", link="mark", error="no more luck\nat all"):
        done = conserver("submit", str(path), "--wait", "--timeout", "60", "--json")
    (item,) = orjson.loads(done.stdout)["items"]
    assert (item["outcome"], item["detail"]) == ("failed", "failed: mark: no more luck")
    assert done.returncode == 1


def test_submit_tells_a_cancelled_item_from_one_that_is_done(
    conserver: Command, server: Any, redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(vcon("u-a"))
    # Only lists that are known are asked.
    script.run(server, host_calls.register("h1", "c", ["inbox"]))

    def cancel() -> None:
        with connect(redis_url) as other:
            eventually(lambda: cancellation.cancel(other, "u-a").total)

    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(cancel)
        done = conserver("submit", str(path), "--wait", "--timeout", "60", "--json")
        cancelled.result()
    assert orjson.loads(done.stdout)["items"][0]["outcome"] == "cancelled"
    assert done.returncode == 1


def test_jobs(conserver: Command, server: Any, tmp_path: Path) -> None:
    """They are listed, shown and cancelled, by what `submit` has printed."""
    path = tmp_path / "a.json"
    path.write_bytes(vcon("u-a"))
    (item,) = conserver.json("submit", str(path))["items"]
    job = item["job"]
    assert job.encode() in conserver("submit", str(path)).stdout or job
    assert [one["id"] for one in conserver.json("jobs", "list", "--list", "inbox")][-1] == job
    assert conserver.json("jobs", "list", "--status", "failed") == []
    shown = conserver.json("jobs", "show", job)
    assert (shown["status"], shown["uuid"], shown["list"]) == ("queued", "u-a", "inbox")
    assert job in conserver("jobs", "list").stdout.decode()
    assert conserver.json("jobs", "cancel", job)["status"] == "cancelled"
    again = conserver("jobs", "cancel", job)
    assert again.returncode == 1
    assert b"has ended already: cancelled" in again.stderr
    assert conserver("jobs", "show", "nobody").returncode == 1
    wrong = conserver("jobs", "list", "--status", "faild")
    assert (wrong.returncode, b"failed" in wrong.stderr) == (2, True)
    none = conserver.json("jobs", "list", "--list", "inbox", "--status", "failed")
    assert none == [], "a list without such jobs is known"
    wrong = conserver("jobs", "list", "--list", "inbux")
    assert wrong.returncode == 1
    assert b"there is no list inbux (did you mean `inbox`?)" in wrong.stderr
    server.hset(f"conserver:job:{job}", "list", "gone")
    assert conserver.json("jobs", "list", "--list", "gone", "--status", "failed") == []
    assert conserver("jobs", "list", "--list", "gome", "--status", "failed").returncode == 1
    other = tmp_path / "other.yml"
    other.write_text("chains: {a: {ingress_lists: [inbux]}}")
    assert conserver.json("jobs", "list", "--list", "inbux", "--config", str(other)) == []


@pytest.mark.parametrize(
    ("status", "error", "line"),
    [
        ("failed", {"reason": "failed", "link": "crm", "error": "no\nyes"}, "failed: crm: no"),
        ("waiting", {"link": "crm", "error": "busy", "attempts": 1}, "crm: busy"),
        ("waiting", {"rate": "6/min"}, "its rate, 6/min"),
        ("waiting", {"storages": {"s3": "is away"}}, "s3: is away"),
    ],
)
def test_jobs_shows_times_and_errors_for_people(
    conserver: Command, server: Any, status: str, error: dict[str, Any], line: str
) -> None:
    times = {"created_ms": 1_000_000_000_000, "updated_ms": 1_000_000_060_000}
    fields = {"status": status, "list": "x", **times, "error": orjson.dumps(error)}
    server.hset("conserver:job:j", mapping=fields)
    shown = conserver("jobs", "show", "j").stdout.decode()
    assert "2001-09-09 01:46:40 UTC" in shown
    assert "2001-09-09 01:47:40 UTC" in shown
    assert {"failed": "error", "waiting": "waits_for"}[status].ljust(13) + line in shown
    assert "{" not in shown
    assert conserver.json("jobs", "show", "j")["error"] == error


def test_submit_writes_nothing_for_what_is_no_list(
    conserver: Command, server: Any, tmp_path: Path
) -> None:
    """A document whose uuid cannot be pushed would lie there for ever."""
    path = tmp_path / "a.json"
    path.write_bytes(vcon("u-a"))
    server.set("odd", "x")
    done = conserver("submit", str(path), "--list", "odd")
    assert done.returncode == 1
    assert b"odd is a string in Redis, and no list" in done.stderr
    assert server.keys() == [b"odd"]


@contextmanager
def dead_lettered_soon(redis_url: str, **why: Any) -> Iterator[None]:
    """A consumer that makes dead letters of what is submitted meanwhile: of two copies."""

    def consume() -> None:
        with connect(redis_url) as server:
            eventually(lambda: server.llen("inbox") == 2)
            Consumer(server, "h2").dead_letter(**why)

    with ThreadPoolExecutor(1) as pool:
        consumed = pool.submit(consume)
        yield
        consumed.result()


AWAY = """
storages: {away: {module: storage.s3, options: {bucket: b, endpoint_url: "http://127.0.0.1:1",
  access_key_id: a, secret_access_key: a}}}
chains: {main: {ingress_lists: [inbox]}}
"""


def test_get(conserver: Command, server: Any, tmp_path: Path) -> None:
    """A document is printed as it is; what nobody has is code 1."""
    server.set("vcon:u-1", vcon("u-1"))
    assert conserver("get", "u-1").stdout == vcon("u-1")
    assert conserver.json("get", "u-1")["uuid"] == "u-1"
    done = conserver("get", "u-2")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"u-2 is nowhere: not in redis" in done.stderr
    done = conserver("get", "u-1", "--from", "redi")
    assert done.returncode == 2
    assert b"no storage `redi`" in done.stderr
    assert b"did you mean `redis`?" in done.stderr
    path = tmp_path / "away.yml"
    path.write_text(AWAY, encoding="utf-8")
    for words, said in (
        (["--from", "away"], b"u-2 could not be looked for: away could not be"),
        ([], b"u-2 may be elsewhere: not in redis; away could not be asked"),
    ):
        done = conserver("get", "u-2", "-c", str(path), *words)
        assert done.returncode == 69
        assert said in done.stderr
    server.set("vcon:u-3", b'{"vcon": \x1b')
    done = conserver("get", "u-3", "--json")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"the document of u-3 is not JSON" in done.stderr


def test_pause_and_resume(conserver: Command, server: Any) -> None:
    """A paused list gives nothing; resuming without names ends every pause."""
    server.rpush("inbox", "u-1")
    consumer = Consumer(server)
    assert conserver.json("pause") == {"paused": ["inbox"]}
    assert consumer.claim() == []
    assert conserver.json("status")["lists"][0]["paused"] is True
    assert conserver.json("resume") == {"resumed": ["inbox"]}
    assert len(consumer.claim()) == 1
    assert b"inbox was not paused" in conserver("resume", "inbox").stderr


@pytest.mark.parametrize(
    "words",
    [
        ["resume"],
        ["empty"],
        ["pause"],
        ["list"],
        ["retry", "--list"],
        ["dlq", "list", "--list"],
        ["dlq", "list", "--count", "--list"],
        ["dlq", "requeue", "--list"],
        ["dlq", "purge", "--list"],
    ],
)
def test_a_list_that_is_nowhere_is_refused(
    conserver: Command, server: Any, words: list[str]
) -> None:
    """Whoever has misspelt it would believe that it is done."""
    server.rpush("pushed", "u-1")
    server.hset(keys.CONTROL, keys.paused("old"), "1")
    refused = conserver(*words, "inbux")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"there is no list inbux (did you mean `inbox`?)" in refused.stderr
    server.rpush(keys.dead_letters("gone"), "u-2")
    for known in ("inbox", "pushed", "old", "gone", "conserver:notifications"):
        assert conserver(*words, known).returncode == 0, known


def test_a_list_that_is_nowhere_is_paused_only_by_force(conserver: Command, server: Any) -> None:
    """A typo must not let somebody believe that a list is paused."""
    Consumer(server)
    refused = conserver("pause", "inbox", "inbux")
    assert refused.returncode != 0
    assert b"there is no list inbux (did you mean `inbox`?)" in refused.stderr
    assert b"--force" in refused.stderr
    assert not server.exists(keys.CONTROL)
    forced = conserver("pause", "inbux", "--force")
    assert (forced.returncode, forced.stdout) == (0, b"paused: inbux\n")
    assert b"nobody has ever taken from inbux" in forced.stderr
    server.rpush("pushed", "u-1")
    assert conserver.json("pause", "pushed") == {"paused": ["pushed"]}


def test_drain_waits_for_what_is_in_flight(conserver: Command, server: Any) -> None:
    """It ends with 0 once nothing is held, and with 1 while something is; all is paused."""
    assert conserver.json("drain") == {"paused": ["inbox"], "in_flight": 0}
    conserver("resume")
    server.rpush("inbox", "u-1")
    Consumer(server).claim()
    done = conserver("drain", "--timeout", "0.3")
    assert done.returncode == 1
    assert b"1 in flight: waiting for at most 0.3 s" in done.stderr
    assert b"1 still in flight; all lists stay paused until `conserver resume`" in done.stderr


def test_a_drain_that_is_interrupted_says_what_it_leaves(
    redis_url: str, server: Any, tmp_path: Path
) -> None:
    """Whoever presses Ctrl-C does not see that nothing is taken any more."""
    server.rpush("inbox", "u-1")
    Consumer(server).claim()
    said = tmp_path / "said"
    with said.open("wb") as err:
        draining = subprocess.Popen(
            [sys.executable, "-m", "conserver", "drain"],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": redis_url},
            stderr=err,
        )
        with ended(draining):
            eventually(lambda: b"waiting for at most" in said.read_bytes())
            draining.send_signal(signal.SIGINT)
            code = draining.wait(90)
    assert code == 130
    assert b"interrupted: all lists stay paused until `conserver resume`" in said.read_bytes()
    assert server.hexists(keys.CONTROL, "paused:inbox")


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


def test_doctor(conserver: Command) -> None:
    """Each subject is looked at, and a server without persistence is warned of."""
    found = conserver.json("doctor")
    subjects = {finding["subject"] for finding in found["findings"]}
    assert {"version", "role", "persistence", "eviction", "rights", "clock"} <= subjects
    assert found["ok"]
    assert (found["host"], found["version"]) == (socket.gethostname(), package.__version__)
    rights = next(one["text"] for one in found["findings"] if one["subject"] == "rights")
    assert rights == "user default may do what is needed"


def test_what_fleets_may_rely_on_of_doctor_is_documented(conserver: Command) -> None:
    """Fields, subjects, levels and exit codes, in docs/systemd.md."""
    page = (ROOT / "docs" / "systemd.md").read_text()
    found = conserver.json("doctor")
    assert found.keys() == {"host", "version", "ok", "findings"}
    for finding in found["findings"]:
        assert finding.keys() == {"subject", "level", "text", "advice"}
        assert f"`{finding['subject']}`" in page
        assert finding["level"] in ("ok", "warning", "wrong")
    codes = {
        0: conserver("doctor", "--json"),
        69: conserver("doctor", "--json", REDIS_URL="redis://127.0.0.1:1"),
        78: conserver("doctor", "--json", REDIS_URL="nonsense"),
    }
    for code, done in codes.items():
        assert done.returncode == code
        assert f"| {code} |" in page


def test_doctor_on_a_server_that_loses_items(private: Any, conserver: Command) -> None:
    """Eviction and missing rights are wrong, with the remedy, and the exit code says so."""
    from servers import Redis

    other = private(Redis({"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}))
    other.ask("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-blmove", "-hkeys")
    done = conserver("doctor", "--json", REDIS_URL=other.url.replace("//", "//poor:x@"))
    assert done.returncode == 1
    found = {finding["subject"]: finding for finding in orjson.loads(done.stdout)["findings"]}
    assert found["eviction"]["level"] == "wrong"
    assert "noeviction" in found["eviction"]["advice"]
    assert found["rights"]["text"] == "user poor may not call blmove, hkeys"
    assert found["rights"]["advice"] == "ACL SETUSER poor +blmove +hkeys"
    assert found["scripts"]["level"] == "ok"
    assert found["persistence"]["level"] == "warning"


def test_check_connect(conserver: Command, server: Any) -> None:
    """Redis is asked, and its version told."""
    done = conserver("check", "--connect")
    assert done.returncode == 0
    name = "Valkey" if "valkey_version" in server.info("server") else "Redis"
    assert f"redis: answers, {name} ".encode() in done.stdout


def test_a_replica_is_told_by_what_it_refuses(private: Any, conserver: Command) -> None:
    """It answers, so that only a change shows what it is."""
    from servers import Redis

    url = private(Redis({"replicaof": "127.0.0.1 1"})).url
    done = conserver("check", "--connect", REDIS_URL=url)
    assert done.returncode == 69
    assert b"this Redis is a replica and refuses changes" in done.stderr
    assert b"1 server cannot be used" in done.stderr
    for words in (["pause", "inbox"], ["resume", "inbox"], ["reclaim"], ["drain"]):
        done = conserver(*words, REDIS_URL=url)
        assert done.returncode == 1
        assert b"REDIS_URL must lead to the primary" in done.stderr
        assert b"script" not in done.stderr


def test_check_connect_asks_what_schedules_ask(conserver: Command, tmp_path: Path) -> None:
    """A query that its storage does not understand is told before its hour has come."""
    config = tmp_path / "asks.yml"
    for query, code in (("uuid LIKE 'a%'", 0), ("no_such_column = 1", 1)):
        config.write_text(
            f"storages: {{db: {{module: storage.sqlite, options: {{path: {tmp_path}/v.db}}}}}}\n"
            "chains: {a: {ingress_lists: [inbox], storages: [db]}}\n"
            'schedules: {nightly: {cron: "0 2 * * *", find: '
            f'{{storage: db, list: inbox, query: "{query}"}}}}}}\n'
        )
        done = conserver("check", "--connect", "--config", str(config))
        said = (done.stdout + done.stderr).decode()
        assert (done.returncode != 0) == bool(code), said
        assert "schedules.nightly.find" in said
        assert ("no such column" in said) == bool(code)


def test_a_user_that_may_not_run_scripts(private: Any, conserver: Command) -> None:
    """Nothing would ever move: told before anything runs, even where rights cannot be asked for."""
    from servers import Redis

    other = private(Redis())
    other.ask("ACL", "SETUSER", "poor", "on", "nopass", "~*", "+@all", "-@scripting", "-acl")
    url = other.url.replace("//", "//poor:x@")
    done = conserver("doctor", "--json", REDIS_URL=url)
    assert done.returncode == 1
    found = {finding["subject"]: finding for finding in orjson.loads(done.stdout)["findings"]}
    assert found["scripts"]["advice"] == "ACL SETUSER poor +eval +evalsha"
    assert found["rights"]["text"] == "user poor may not ask for its rights"
    done = conserver("check", "--connect", REDIS_URL=url)
    assert done.returncode == 69
    assert b"no permissions to run the 'eval' command (the login lacks a right" in done.stderr


def test_submit_says_when_nobody_would_take_it(
    conserver: Command, server: Any, tmp_path: Path
) -> None:
    """No host, a list that none serves, a pause: the item is on the list, and waits."""
    path = tmp_path / "a.json"
    path.write_bytes(vcon("u-a"))
    done = conserver("submit", str(path))
    assert done.returncode == 0
    assert b"warning: no host is running" in done.stderr
    beat(server)
    done = conserver("submit", str(path), "--list", "inbux")
    assert done.returncode == 2
    assert (
        b"--list inbux: nobody has ever served such a list (did you mean `inbox`?)" in done.stderr
    )
    assert server.llen("inbux") == 0
    done = conserver("submit", str(path), "--list", "inbux", "--force")
    assert done.returncode == 0
    assert b"warning: no host that runs serves inbux (did you mean `inbox`?)" in done.stderr
    assert b"nobody serves it" in conserver("status").stdout
    beat(server, lists=[])
    done = conserver("submit", str(path), "--list", "inbux")
    assert done.stderr == b"warning: no host that runs serves inbux\n"
    beat(server)
    assert conserver("submit", str(path)).stderr == b""
    conserver("pause", "inbox")
    assert b"inbox is paused: `conserver resume inbox`" in conserver("submit", str(path)).stderr
    assert server.llen("inbox") == 3


def test_doctor_finds_lists_that_nobody_serves_and_what_fills_redis(
    conserver: Command, server: Any
) -> None:
    """Neither those that hosts serve or push to, nor what belongs to vcon-server's tools."""
    beat(server)
    server.hset(keys.host("h1"), "egress", b'["done"]')
    server.rpush("inbox", "u-1")
    server.rpush("done", "u-1")
    server.rpush(keys.trace_context("inbox", "u-1"), "{}")
    server.rpush("inbux", "u-1", "u-2")
    server.set("vcon:u-1", b"x" * 50_000, ex=3600)
    server.set("vcon:u-2", b"x" * 200_000)
    found = conserver.json("doctor")["findings"]
    (lists,) = [one for one in found if one["subject"] == "lists"]
    assert lists["level"] == "warning"
    assert lists["text"] == ("inbux holds 2 items, and no host serves it (did you mean `inbox`?)")
    (room,) = [one["text"] for one in found if one["subject"] == "room"]
    assert room.split(", ")[0].endswith("% documents at work")
    assert "% documents that are done with" in room


def test_without_a_living_host_doctor_asks_the_configuration_whose_lists_they_are(
    conserver: Command, server: Any, tmp_path: Path
) -> None:
    """Before the first start of hosts, and after all have stopped."""

    def told(**environ: str) -> list[str]:
        found = orjson.loads(conserver("doctor", "--json", **environ).stdout)["findings"]
        return [one["text"] for one in found if one["subject"] == "lists"]

    for name in ("inbox", "done", "inbux"):
        server.rpush(name, "u-1")
    assert told() == [
        "inbux holds 1 item, and the configuration does not name it (did you mean `inbox`?)"
    ]
    [nothing] = told(CONSERVER_CONFIG_FILE=str(tmp_path / "none.yml"))
    assert nothing.startswith("not examined: no host lives")


def test_doctor_tells_what_plugins_lack(conserver: Command, tmp_path: Path) -> None:
    """A model's folder that is not there; a machine without a configuration has no plugins."""
    link = {"module": "links.transcribe", "options": {"engine": "onnx", "model": "/nowhere"}}
    path = tmp_path / "config.yml"
    config = {"links": {"hear": link}, "chains": {"a": {"links": ["hear"], "ingress_lists": ["a"]}}}

    def told(**environ: str) -> tuple[int, list[tuple[str, str]]]:
        done = conserver("doctor", "--json", **environ)
        found = [
            one for one in orjson.loads(done.stdout)["findings"] if one["subject"] == "plugins"
        ]
        return done.returncode, [(one["level"], one["text"]) for one in found]

    assert told() == (0, [("ok", "links and storages can be used on this machine")])
    path.write_bytes(orjson.dumps(config))
    code, [(level, text)] = told()
    assert (code, level) == (1, "wrong")
    assert text.startswith("links.hear.options.model: there is no folder /nowhere")
    assert told(CONSERVER_CONFIG_FILE=str(tmp_path / "none.yml")) == (0, [])


def test_submit_of_an_empty_folder(conserver: Command, tmp_path: Path) -> None:
    """Nothing submitted is no success: the path was wrong."""
    (tmp_path / "calls").mkdir()
    done = conserver("submit", str(tmp_path / "calls"))
    assert done.returncode == 1
    assert b"no vCon and no recording in this folder" in done.stderr
