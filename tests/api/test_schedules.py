"""/v1/schedules: what happens at fixed times, and who may change it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from tests.queues import Queue

Clients = Callable[[str], httpx.Client]
KEY = "conserver:schedule:nightly"


@pytest.fixture
def operate(clients: Clients) -> httpx.Client:
    """An operator."""
    return clients("operate")


def test_schedules_are_listed_with_what_they_do(operate: httpx.Client) -> None:
    asked_at = datetime.now(UTC).isoformat()
    found = {one["name"]: one for one in operate.get("/v1/schedules").json()}
    nightly, never = found.pop("nightly"), found.pop("never")
    assert not found
    assert nightly["timezone"] == "Europe/Berlin"
    assert nightly["does"] == "pushes 1 payload on other"
    assert nightly["next_at"] > asked_at
    assert nightly["last_result"] is None
    assert (never["enabled"], never["next_at"]) == (False, None)
    assert never["does"] == "purges dead letters: older 7d"


def test_a_run_is_asked_for_and_refused_while_one_is_at_work(
    operate: httpx.Client, queue: Queue
) -> None:
    assert operate.post("/v1/schedules/nightly/run").json()["wanted"] is True
    assert queue.client.hexists(KEY, "wanted")
    queue.client.hset(KEY, mapping={"run": "1.1", "host": "h1"})
    refused = operate.post("/v1/schedules/nightly/run")
    assert refused.status_code == 409
    assert "runs already" in refused.json()["detail"]


def test_a_disabled_schedule_does_not_run(operate: httpx.Client) -> None:
    assert operate.post("/v1/schedules/never/run").status_code == 409


def test_pause_and_resume_are_audited(operate: httpx.Client, admin: httpx.Client) -> None:
    assert operate.post("/v1/schedules/nightly/pause").json()["paused"] is True
    assert operate.get("/v1/schedules/nightly").json()["next_at"] is None
    assert operate.post("/v1/schedules/nightly/resume").json()["paused"] is False
    actions = [entry["action"] for entry in admin.get("/v1/audit").json()[:2]]
    assert actions == ["resume_schedule", "pause_schedule"]


@pytest.mark.parametrize("path", ["", "/run", "/pause", "/resume"])
def test_an_unknown_schedule_is_404_with_a_hint(operate: httpx.Client, path: str) -> None:
    call = operate.post if path else operate.get
    answer = call(f"/v1/schedules/nightlyy{path}")
    assert answer.status_code == 404
    assert "did you mean `nightly`?" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("role", "status"), [("", 401), ("submit", 403), ("read", 403), ("narrow", 403), ("admin", 200)]
)
def test_who_may_run_one(clients: Clients, role: str, status: int) -> None:
    assert clients(role).post("/v1/schedules/nightly/run").status_code == status
