"""Transcribers under the true command: started, shared, replaced, ended last; no call is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from conserver.queue import keys
from conserver.vcon.document import encode_body
from tests.collector import Collector
from tests.daemon import Daemon
from tests.unit.media.speech.real import DATA, HEARING

TEXT = "yes please call seven two four"
CONFIG: dict[str, Any] = {
    "links": {"hear": {"module": "links.transcribe", "options": HEARING}},
    "chains": {"calls": {"links": ["hear"], "ingress_lists": ["calls"], "egress_lists": ["heard"]}},
}


@pytest.fixture
def start(tmp_path: Path, redis_url: str) -> Any:
    """Starts daemons, and ends them after the test."""
    daemons: list[Daemon] = []

    def begin(config: dict[str, Any] = CONFIG, **options: Any) -> Daemon:
        daemon = Daemon(tmp_path / f"host{len(daemons)}", redis_url, config, **options)
        daemons.append(daemon)
        return daemon.start()

    yield begin
    for daemon in daemons:
        daemon.destroy()


def push(client: redis.Redis, count: int, name: str = "mono-8k") -> list[str]:
    """Push vCons with one recording each; their uuids."""
    body = encode_body((DATA / "calls" / f"{name}.wav").read_bytes())
    uuids = [f"0198e2f0-0000-8000-8000-{number:012x}" for number in range(count)]
    for uuid in uuids:
        dialog = {
            "type": "recording", "parties": [0], "mediatype": "audio/wav",
            "encoding": "base64url", "body": body,
        }  # fmt: skip
        vcon = {"vcon": "0.0.1", "uuid": uuid, "parties": [{"name": "Ada"}], "dialog": [dialog]}
        client.set(f"vcon:{uuid}", orjson.dumps(vcon))
        client.rpush("calls", uuid)
    return uuids


def texts(client: redis.Redis, uuids: list[str]) -> set[str]:
    found = set()
    for uuid in uuids:
        raw = client.get(f"vcon:{uuid}")
        assert isinstance(raw, bytes)
        (transcript,) = (a for a in orjson.loads(raw)["analysis"] if a["type"] == "transcript")
        body = transcript["body"]
        found.add((orjson.loads(body) if isinstance(body, str) else body)["transcript"])
    return found


def all_heard(client: redis.Redis, count: int) -> Callable[[], bool]:
    return lambda: client.llen("heard") == count


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_share_one_transcriber_and_load_no_model(
    start: Any, client: redis.Redis, method: str
) -> None:
    daemon = start(method=method, workers=2)
    uuids = push(client, 12)
    daemon.until(all_heard(client, 12), 30)
    assert texts(client, uuids) == {TEXT}
    (transcriber,) = daemon.pids("transcriber")
    libraries = Path(f"/proc/{transcriber}/maps").read_text()
    assert "ctranslate2" in libraries
    # It shares no memory, so it does without what it does not need.
    assert not [name for name in ("pydantic_core", "/av/_core") if name in libraries]
    loaded = daemon.events("model_loaded")
    assert [line["role"] for line in loaded] == ["transcriber"]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    daemon.until(lambda: daemon.everybody() == [])
    assert daemon.events("child_died") == []


def test_a_transcriber_that_is_killed_costs_no_call_and_blames_none(
    start: Any, client: redis.Redis
) -> None:
    daemon = start(workers=2)
    (first,) = daemon.until(lambda: daemon.pids("transcriber"))
    uuids = push(client, 40)
    daemon.until(lambda: client.llen("heard") >= 1)
    daemon.signal(signal.SIGKILL, first)
    daemon.until(all_heard(client, 40), 40)
    assert texts(client, uuids) == {TEXT}
    assert daemon.event("child_died", child="transcriber 1")["blamed"] == []
    assert client.keys("DLQ:*") == []
    assert daemon.pids("transcriber") != [first]


def test_a_transcriber_that_stands_still_is_replaced(start: Any, client: redis.Redis) -> None:
    daemon = start(CONSERVER_STALL_TIMEOUT_S="5")
    (first,) = daemon.until(lambda: daemon.pids("transcriber"))
    daemon.signal(signal.SIGSTOP, first)
    uuids = push(client, 3)
    daemon.until(all_heard(client, 3), 30)
    daemon.event("child_stalled", child="transcriber 1")
    assert texts(client, uuids) == {TEXT}


def test_a_worker_that_is_killed_has_its_calls_heard_by_another(
    start: Any, client: redis.Redis
) -> None:
    daemon = start(workers=2)
    uuids = push(client, 40)
    daemon.until(lambda: client.llen("heard") >= 1)
    daemon.signal(signal.SIGKILL, daemon.worker(1))
    daemon.until(all_heard(client, 40), 40)
    assert texts(client, uuids) == {TEXT}
    assert daemon.events("child_died", child="transcriber 1") == []


def test_a_stop_lets_calls_be_heard_to_their_end(start: Any, client: redis.Redis) -> None:
    daemon = start(workers=2)
    push(client, 40)
    daemon.until(lambda: client.llen("heard") >= 1)
    daemon.kill_group(signal.SIGTERM)  # As a terminal does: the transcriber gets it, too.
    assert daemon.wait() == 0
    assert daemon.events("child_died") == []
    left = client.llen("calls") + client.llen(keys.returned("calls"))
    assert client.llen("heard") + left == 40


def test_without_transcribers_every_worker_loads_a_model(start: Any, client: redis.Redis) -> None:
    daemon = start(CONSERVER_TRANSCRIBERS="0")
    uuids = push(client, 2)
    daemon.until(all_heard(client, 2), 30)
    assert texts(client, uuids) == {TEXT}
    assert daemon.pids("transcriber") == []


def test_none_is_started_where_nothing_is_transcribed(start: Any) -> None:
    config = {
        "links": {"tag": {"module": "links.tag", "options": {"tags": ["x"]}}},
        "chains": {"calls": {"links": ["tag"], "ingress_lists": ["calls"]}},
    }
    assert start(config).pids("transcriber") == []


def test_an_idle_transcriber_ends_and_the_next_call_starts_it(
    start: Any, client: redis.Redis
) -> None:
    daemon = start(CONSERVER_TRANSCRIBER_IDLE_S="0.5")
    daemon.event("child_ended", child="transcriber 1", why="retiring")
    daemon.until(lambda: daemon.pids("transcriber") == [])
    uuids = push(client, 1)
    daemon.until(all_heard(client, 1), 30)
    assert texts(client, uuids) == {TEXT}


def test_a_window_that_ends_the_transcriber_thrice_is_a_dead_letter_by_name(
    start: Any, client: redis.Redis
) -> None:
    daemon = start(CONSERVER_FAILPOINTS="batch:kill")
    push(client, 1)
    daemon.until(lambda: client.llen("DLQ:calls") == 1, 40)
    daemon.until(lambda: "ended the transcriber 3 times" in daemon.log_file.read_text())


def test_a_batch_is_linked_to_the_links_that_wait_for_it(start: Any, client: redis.Redis) -> None:
    with Collector() as collector:
        daemon = start(workers=1, CONSERVER_VCON_CONCURRENCY="4", **collector.environment)
        push(client, 4)
        daemon.until(all_heard(client, 4), 30)
        links = {span.id: span for span in collector.wait_for("link hear", 4)}
        assert daemon.stop() == 0
        batches = collector.named("transcribe batch")
    assert batches
    assert {span.resource["conserver.role"] for span in batches} == {"transcriber"}
    assert {link[1] for span in batches for link in span.links} == links.keys()
    assert all(span.attributes["conserver.rows"] >= len(span.links) for span in batches)
