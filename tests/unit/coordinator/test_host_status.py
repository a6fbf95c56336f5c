"""host_status.py: what a heartbeat says about the supervisor."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import orjson

from conserver.config.model import Config
from conserver.coordinator.host_status import HostStatus
from conserver.coordinator.idle_workers import IdleWorkers
from conserver.process.shared_status import SharedStatus
from conserver.supervisor.orders import supervisor_state


def test_a_host_is_as_old_as_its_supervisor() -> None:
    """A new coordinator writes no start time until the supervisor has sent it."""
    status = HostStatus(Config(), 30, [], IdleWorkers([], []))
    assert "started_at" not in status.fields()
    status.read_state({"supervisor": supervisor_state("running", 1, "fork", 1_700_000_000.12345)})
    assert status.fields()["started_at"] == 1_700_000_000.123


def test_it_tells_the_present_reason_why_a_storage_is_away_and_since_when() -> None:
    entries: dict[str, Any] = {"module": "storage.file", "options": {"path": "/tmp"}}
    config = Config.model_validate(
        {
            "storages": {"a": entries, "b": entries},
            "chains": {"c": {"storages": ["a", "b"], "ingress_lists": ["in"]}},
        }
    )
    with closing(SharedStatus.create("test")) as worker:
        status = HostStatus(config, 30, [worker], IdleWorkers([], []))
        status.read_state({"workers": [{"slot": 1, "pid": 1, "state": "idle"}]})
        told = []
        names = ("away", "away_reasons")
        for reasons in ({1: "refused"}, {1: "read-only"}, {}):
            worker.set_away(reasons)
            fields: Any = status.fields()
            told.append([orjson.loads(fields[name]) for name in names])
    (since, refused), (still, read_only), back = told
    assert (refused, read_only, back) == ({"b": "refused"}, {"b": "read-only"}, [{}, {}])
    assert since == still != {}
