"""How long links take lately, of sums that hosts tell since their start."""

from __future__ import annotations

from typing import Any

import pytest

from conserver.operations.hosts import Host
from conserver.operations.link_times import WINDOW_S, LinkTimes

START_S = 1_000_000.0


def host(at_s: float, runs: float, seconds: float, name: str = "h", **fields: Any) -> Host:
    """A host that has told so at START_S + at_s."""
    known: dict[str, Any] = {
        "id": name, "name": name, "version": "1", "pid": 1, "state": "running",
        "started_at": START_S, "beat_at": START_S + at_s, "beat_age_s": 1.0, "lease_s": 30.0,
        "lists": [], "storages": [], "workers": [],
        "links": {"calls": {"crm": [runs, seconds]}},
    }  # fmt: skip
    return Host(**(known | fields))


def seen(times: LinkTimes, *hosts: Host) -> tuple[float, float, float]:
    """The span, the runs and the mean."""
    found = times.look(hosts)
    one = found.links["calls", "crm"]
    assert one.mean_s is not None
    return found.span_s, one.runs, one.mean_s


def test_the_first_look_tells_what_was_since_the_start() -> None:
    assert seen(LinkTimes(), host(60, 4, 10)) == (60, 4, 2.5)


def test_later_ones_tell_the_last_minutes() -> None:
    times = LinkTimes()
    times.look([host(1000, 400, 400)])
    assert seen(times, host(1000 + WINDOW_S - 1, 402, 410)) == (999 + WINDOW_S, 402, 410 / 402)
    assert seen(times, host(1000 + WINDOW_S, 402, 410)) == (WINDOW_S, 2, 5)
    assert seen(times, host(1000 + WINDOW_S, 402, 410)) == (WINDOW_S, 2, 5)
    assert seen(times, host(1000 + WINDOW_S * 2 - 1, 403, 415)) == (WINDOW_S, 1, 5)


def test_all_hosts_together() -> None:
    """One that is gone no longer counts."""
    times = LinkTimes()
    assert seen(times, host(60, 4, 10), host(60, 6, 40, "i")) == (60, 10, 5)
    assert seen(times, host(60, 4, 10), host(60, 6, 40, "i", beat_age_s=99.0)) == (60, 4, 2.5)


@pytest.mark.parametrize("links", [{}, {"calls": {}}, {"calls": {"crm": [0.0, 0.0]}}])
def test_links_that_have_not_run_are_left_out(links: dict[str, Any]) -> None:
    assert LinkTimes().look([host(60, 0, 0, links=links)]).links == {}
