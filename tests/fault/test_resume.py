"""What has been done for an item is not done again, and what failed is tried as its chain says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from chaosrun.places import PLACES

from conserver.queue import dead_letters as deadletters
from tests.daemon import Daemon, elements, push, vcon
from tests.fault.scene import Scene, arrived, deaths, nothing_left


def test_killed_after_a_checkpoint_pays_once(scene: Scene, client: redis.Redis) -> None:
    """The link is run again, from the document in which it finds what it had paid."""
    daemon = scene.start(scene.config(["trouble", "mark"]))
    gate = scene.town.folder / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"checkpoint:{gate}")])
    daemon.until(lambda: "costly" in _analyses(client, uuid))
    daemon.signal(signal.SIGKILL, daemon.worker())
    daemon.until(lambda: client.llen(f"runs:{uuid}") == 2)
    gate.touch()
    daemon.until(lambda: arrived(client, [uuid]))
    assert _analyses(client, uuid) == ["costly", "mark"]
    assert nothing_left(client)


def test_killed_between_links_resumes_at_the_next(scene: Scene, client: redis.Redis) -> None:
    """A link that took a second is followed by a checkpoint: it is not run again."""
    config = scene.config(["mark", "trouble"])
    config["links"]["mark"]["options"]["slow_s"] = 1.1
    daemon = scene.start(config)
    gate = scene.town.folder / "gate"
    (uuid,) = push(client, "in", [vcon(subject=f"gate:{gate}")])
    daemon.until(lambda: client.llen(f"runs:{uuid}") == 1)
    daemon.signal(signal.SIGKILL, daemon.worker())
    daemon.until(lambda: client.llen(f"runs:{uuid}") == 2)
    gate.touch()
    daemon.until(lambda: arrived(client, [uuid]))
    assert scene.runs(uuid) == 1
    assert _analyses(client, uuid) == ["mark"]


@pytest.mark.slow
@pytest.mark.parametrize("owed", sorted(PLACES))
def test_killed_with_one_storage_owed_runs_no_link_again(
    owed: str, stored_scene: Scene, client: redis.Redis
) -> None:
    daemon = stored_scene.start()
    first = push(client, "in", [vcon()])
    daemon.until(lambda: arrived(client, first))
    place = stored_scene.town.places[owed]
    place.server.pause()
    uuids = push(client, "in", [vcon() for _ in range(5)])
    for name in stored_scene.town.places:
        if name != owed:
            daemon.until(stored_scene.holds(name, uuids), 30)
    daemon.signal(signal.SIGKILL, daemon.worker())
    place.server.resume()
    daemon.until(lambda: arrived(client, first + uuids), 40)
    assert stored_scene.stored(owed, uuids) == 5
    assert [stored_scene.runs(uuid) for uuid in uuids] == [1] * 5
    assert nothing_left(client)
    assert not client.exists("DLQ:in")


def test_host_killed_whole_with_storages_owed(stored_scene: Scene, client: redis.Redis) -> None:
    """Another host finds in the record what is left to do."""
    doomed = stored_scene.start(CONSERVER_LEASE_S="2")
    first = push(client, "in", [vcon()])
    doomed.until(lambda: arrived(client, first))
    place = stored_scene.town.places["s3"]
    place.server.pause()
    uuids = push(client, "in", [vcon() for _ in range(5)])
    doomed.until(stored_scene.holds("postgres", uuids), 30)
    doomed.kill_everybody()
    place.server.resume()
    other = stored_scene.start(CONSERVER_LEASE_S="2")
    other.until(lambda: arrived(client, first + uuids), 30)
    assert stored_scene.stored("s3", uuids) == 5
    assert [stored_scene.runs(uuid) for uuid in uuids] == [1] * 5


def test_retry_with_backoff_then_success(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start(scene.config(backoff_s=0.4, backoff_max_s=0.4))
    began_s = time.monotonic()
    (uuid,) = push(client, "in", [vcon(subject="fail:2")])
    daemon.until(lambda: arrived(client, [uuid]))
    assert time.monotonic() - began_s > 0.4, "each wait is at least half of the backoff"
    assert scene.runs(uuid) == 3
    attempts = [event["attempt"] for event in daemon.events("attempt_failed", vcon=uuid)]
    assert attempts == [1, 2]
    assert len(_analyses(client, uuid)) == 1
    assert not client.exists("DLQ:in")


def test_retries_exhausted_is_a_dead_letter_that_tells_all(
    scene: Scene, client: redis.Redis
) -> None:
    daemon = scene.start(scene.config(retries=2))
    good = push(client, "in", [vcon()])
    (uuid,) = push(client, "in", [vcon(subject="fail")])
    daemon.until(lambda: elements(client, "DLQ:in") == [uuid])
    (letter,) = deadletters.scan(client, "in")
    why = letter.why
    assert scene.runs(uuid) == 3
    assert (why["reason"], why["link"], why["attempts"]) == ("failed", "mark", 3)
    assert (why["uuid"], why["chain"], why["list"]) == (uuid, "main", "in")
    assert why["error"] == "attempt 3 fails"
    assert why["type"] == "ValueError"
    assert "tests/modules/marks.py" in why["traceback"]
    event = daemon.event("dead_letter", vcon=uuid)
    assert (event["link"], event["attempts"]) == ("mark", 3)
    daemon.until(lambda: arrived(client, good))
    assert nothing_left(client)


def test_requeued_dead_letter_resumes(scene: Scene, client: redis.Redis) -> None:
    """The link before the one that failed is not run again; attempts start from nothing."""
    daemon, uuid = _fail_behind_a_slow_link(scene, client)
    assert daemon.stop() == 0
    daemon = scene.start(_two_links(scene, "nothing"))  # what made it fail is mended
    _command(scene, "dlq", "requeue", uuid)
    daemon.until(lambda: arrived(client, [uuid]))
    assert scene.runs(uuid) == 1, "the link that was done"
    assert client.llen(f"runs:{uuid}") == 3, "two attempts before, one now"
    assert not client.exists("DLQ:in")
    assert not client.exists("conserver:dead:in")
    assert nothing_left(client)


def test_requeued_dead_letter_whose_document_was_replaced(
    scene: Scene, client: redis.Redis
) -> None:
    """Nobody knows what of the old document is in the new one: all links run on it."""
    daemon, uuid = _fail_behind_a_slow_link(scene, client)
    client.set(f"vcon:{uuid}", json.dumps(vcon(uuid, subject="nothing")))
    _command(scene, "dlq", "requeue", uuid)
    daemon.until(lambda: arrived(client, [uuid]))
    assert scene.runs(uuid) == 2
    assert daemon.event("started_anew", vcon=uuid)
    assert client.llen(f"runs:{uuid}") == 3
    assert nothing_left(client)


def _two_links(scene: Scene, deed: str) -> dict[str, Any]:
    config = scene.config(["mark", "trouble"], retries=1)
    config["links"]["mark"]["options"]["slow_s"] = 1.1  # so that it is checkpointed
    config["links"]["trouble"]["options"]["deed"] = deed
    return config


def _fail_behind_a_slow_link(scene: Scene, client: redis.Redis) -> tuple[Daemon, str]:
    """A dead letter of a chain whose first link is done."""
    daemon = scene.start(_two_links(scene, "fail"))
    (uuid,) = push(client, "in", [vcon()])
    daemon.until(lambda: elements(client, "DLQ:in") == [uuid])
    assert scene.runs(uuid) == 1
    return daemon, uuid


def test_rejected_by_a_link_is_not_tried_again(scene: Scene, client: redis.Redis) -> None:
    daemon = scene.start()
    (uuid,) = push(client, "in", [vcon(subject="reject:we do not take these")])
    daemon.until(lambda: elements(client, "DLQ:in") == [uuid])
    (letter,) = deadletters.scan(client, "in")
    assert (letter.why["reason"], letter.why["error"]) == ("rejected", "we do not take these")
    assert scene.runs(uuid) == 1
    assert not deaths(daemon)


def test_unwritable_vcon_of_a_link_is_a_dead_letter(scene: Scene, client: redis.Redis) -> None:
    """A link puts something into the vCon that JSON cannot hold."""
    daemon = scene.start()
    good = push(client, "in", [vcon()])
    (uuid,) = push(client, "in", [vcon(subject="unwritable")])
    daemon.until(lambda: elements(client, "DLQ:in") == [uuid])
    (letter,) = deadletters.scan(client, "in")
    assert letter.why["reason"] == "rejected"
    assert "JSON" in letter.why["error"]
    assert scene.runs(uuid) == 1
    daemon.until(lambda: arrived(client, good))
    assert not deaths(daemon)


def _analyses(client: redis.Redis, uuid: str) -> list[str]:
    document: dict[str, Any] = json.loads(client.get(f"vcon:{uuid}") or b"{}")
    return [analysis["type"] for analysis in document["analysis"]]


def _command(scene: Scene, *words: str) -> None:
    """`conserver ...` as an operator calls it."""
    environment = {"REDIS_URL": scene.town.redis.url, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "conserver", *words],
        env={**os.environ, **environment},
        cwd=scene.town.folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
