"""Documents through the true command: read, killed, read on, and given up by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from benchmark import papers

from conserver.vcon.document import encode_body
from tests.daemon import Daemon, elements, push, vcon

# Pictures of a few short lines are read in a second.
LINES = papers.LINES[10:12]
DETAIL_PX = 700


def config(**options: Any) -> dict[str, Any]:
    told = {"detail_px": DETAIL_PX, "checkpoint_pages": 1, "checkpoint_s": 0, **options}
    return {
        "links": {"read": {"module": "links.read_documents", "options": told}},
        "chains": {"main": {"links": ["read"], "ingress_lists": ["in"], "egress_lists": ["out"]}},
    }


def attachment(content: bytes, mediatype: str = "application/pdf") -> dict[str, Any]:
    return {
        "purpose": "contract",
        "start": "2026-11-01T10:00:00Z",
        "party": 0,
        "dialog": 0,
        "mediatype": mediatype,
        "body": encode_body(content),
        "encoding": "base64url",
    }


def scan(pages: int) -> bytes:
    """Pages with the same two lines, as pictures of 4 x 2 inches."""
    picture = papers.drawn(papers.pdf([LINES]), 100).crop((60, 80, 760, 220))
    return papers.pdf_of_pictures([picture] * pages)


def analyses(client: Any, uuid: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(client.get(f"vcon:{uuid}"))["analysis"]
    return found


def extraction(client: redis.Redis, uuid: str) -> dict[str, Any]:
    """The body of the only analysis of a vCon."""
    [analysis] = analyses(client, uuid)
    assert analysis["type"] == "document_text"
    body: dict[str, Any] = analysis["body"]
    return body


def kept(client: redis.Redis, uuid: str) -> int:
    """How many pages of an unfinished document a checkpoint holds."""
    [count] = [
        len(one["body"]["pages"])
        for one in analyses(client, uuid)
        if one["type"] == "document_text_progress"
    ] or [0]
    return count


def errors(body: dict[str, Any]) -> list[float]:
    return [papers.error_rate(" ".join(LINES), page["text"]) for page in body["pages"]]


@pytest.mark.slow
def test_documents_are_read_by_the_hosts_page_readers(tmp_path: Path, redis_url: str) -> None:
    """Spawned here; in the other tests they start as is the default of the platform."""
    with (
        redis.Redis.from_url(redis_url) as client,
        Daemon(tmp_path, redis_url, config(), "spawn", 2, CONSERVER_PAGE_READERS="2") as daemon,
    ):
        document = vcon(attachments=[attachment(scan(2)), attachment(papers.pdf([LINES, []]))])
        [uuid] = push(client, "in", [document])
        daemon.until(lambda: elements(client, "out"), 60)
        titles = daemon.until(lambda: len(daemon.pids("page reader")) == 2)
        assert titles, "however many workers there are"
        found = analyses(client, uuid)
        assert [analysis["attachment"] for analysis in found] == [0, 1]
        assert max(errors(found[0]["body"])) < 0.02
        assert [page["source"] for page in found[1]["body"]["pages"]] == ["text_layer", "none"]
        readers = daemon.pids("page reader")
        daemon.signal(signal.SIGKILL)
        daemon.until(lambda: not set(readers) & set(daemon.everybody()))


@pytest.mark.slow
def test_a_worker_that_is_killed_between_pages_is_followed_by_one_that_reads_on(
    tmp_path: Path, redis_url: str
) -> None:
    pages = 10
    with (
        redis.Redis.from_url(redis_url) as client,
        Daemon(tmp_path, redis_url, config(), CONSERVER_PAGE_READERS="1") as daemon,
    ):
        [uuid] = push(client, "in", [vcon(attachments=[attachment(scan(pages))])])
        before = daemon.until(lambda: kept(client, uuid), 60)
        assert before < pages
        daemon.signal(signal.SIGKILL, daemon.worker())
        resumed = daemon.event("document_resumed", 60)
        assert resumed["pages"] >= before
        daemon.until(lambda: elements(client, "out"), 90)
        assert max(errors(extraction(client, uuid))) < 0.02


@pytest.mark.slow
def test_a_page_reader_that_is_killed_costs_nothing(tmp_path: Path, redis_url: str) -> None:
    with (
        redis.Redis.from_url(redis_url) as client,
        Daemon(tmp_path, redis_url, config(), CONSERVER_PAGE_READERS="1") as daemon,
    ):
        worker = daemon.worker()
        [uuid] = push(client, "in", [vcon(attachments=[attachment(scan(4))])])
        [reader] = daemon.until(lambda: daemon.pids("page reader"))
        daemon.until(lambda: _cpu_s(reader) > 1, 60)  # It has its models and works on a page.
        daemon.signal(signal.SIGKILL, reader)
        daemon.until(lambda: elements(client, "out"), 90)
        assert max(errors(extraction(client, uuid))) < 0.02
        assert daemon.worker() == worker
        assert daemon.event("child_died", child="page reader 1")["blamed"] == []


@pytest.mark.slow
def test_pages_that_end_every_reader_are_given_up_by_name(tmp_path: Path, redis_url: str) -> None:
    broken = {"CONSERVER_FAILPOINTS": "page:kill", "CONSERVER_PAGE_READERS": "1"}
    told = config(on_unusable="skip")
    with (
        redis.Redis.from_url(redis_url) as client,
        Daemon(tmp_path, redis_url, told, "", 1, **broken) as daemon,
    ):
        worker = daemon.worker()
        [uuid] = push(client, "in", [vcon(attachments=[attachment(scan(2))])])
        daemon.until(lambda: elements(client, "out"), 90)
        assert [one["page"] for one in daemon.events("page_unreadable")] == [1, 2]
        assert "no page could be read" in daemon.event("document_unusable")["reason"]
        assert daemon.worker() == worker
        assert analyses(client, uuid) == []


@pytest.mark.slow
def test_a_stop_lets_the_pages_that_run_be_read(tmp_path: Path, redis_url: str) -> None:
    with (
        redis.Redis.from_url(redis_url) as client,
        Daemon(tmp_path, redis_url, config(), CONSERVER_SHUTDOWN_TIMEOUT_S="120") as daemon,
    ):
        [uuid] = push(client, "in", [vcon(attachments=[attachment(scan(4))])])
        daemon.until(lambda: kept(client, uuid) or elements(client, "out"), 60)
        # A terminal signals every process of the group.
        daemon.kill_group(signal.SIGINT)
        assert daemon.wait(120) == 0
        assert elements(client, "out") == [uuid]
        assert max(errors(extraction(client, uuid))) < 0.02


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_one_that_is_stuck_does_not_outlive_a_killed_supervisor(
    tmp_path: Path, redis_url: str
) -> None:
    with Daemon(
        tmp_path,
        redis_url,
        config(),
        "fork",
        1,
        CONSERVER_PAGE_READERS="1",
        CONSERVER_SHUTDOWN_TIMEOUT_S="2",
    ) as daemon:
        daemon.event("child_ready", child="page reader 1")
        [pid] = daemon.pids("page reader")
        daemon.signal(signal.SIGSTOP, pid)
        daemon.signal(signal.SIGKILL)
        daemon.until(lambda: not daemon.pids(), 30)
        assert daemon.event("orphan_killed")["pid"] == pid
