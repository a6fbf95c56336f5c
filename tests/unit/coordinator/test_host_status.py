"""host_status.py: what a heartbeat says about the supervisor."""

from __future__ import annotations

from conserver.config.model import Config
from conserver.coordinator.host_status import HostStatus
from conserver.coordinator.idle_workers import IdleWorkers
from conserver.supervisor.orders import supervisor_state


def test_a_host_is_as_old_as_its_supervisor() -> None:
    """A new coordinator writes no start time until the supervisor has sent it."""
    status = HostStatus(Config(), 30, [], IdleWorkers([], []))
    assert "started_at" not in status.fields()
    status.read_state({"supervisor": supervisor_state("running", 1, "fork", 1_700_000_000.12345)})
    assert status.fields()["started_at"] == 1_700_000_000.123
