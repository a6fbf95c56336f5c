"""What workers have counted, as one sum per chain and per link."""

from __future__ import annotations

from contextlib import ExitStack, closing

from conserver.coordinator import chain_counts
from conserver.process.shared_status import SharedStatus
from conserver.telemetry import metrics
from conserver.telemetry.cells import Cells


def test_the_sums_of_all_workers() -> None:
    """Links of one name in two chains are two."""
    with ExitStack() as open_ones:
        statuses = [
            open_ones.enter_context(closing(SharedStatus.create(f"sums-{number}")))
            for number in range(2)
        ]
        for status in statuses:
            with closing(Cells(status.metrics)) as cells:
                cells.counter(metrics.ITEMS, "calls", "done").add(3)
                cells.counter(metrics.ITEMS, "calls", "dead").add()
                cells.histogram(metrics.ITEM_S, "calls").observe(0.5)
                cells.histogram(metrics.LINK_S, "calls", "crm").observe(2.0)
                cells.histogram(metrics.LINK_S, "calls", "crm").observe(1.0)
        with closing(Cells(statuses[0].metrics)) as cells:
            cells.histogram(metrics.LINK_S, "chats", "crm").observe(0.25)
        counts = chain_counts.read(statuses)
    well, dead, *took = counts.chains["calls"]
    assert (well, dead, sum(took)) == (6, 2, 2)
    assert counts.links == {"calls": {"crm": [4, 6.0]}, "chats": {"crm": [1, 0.25]}}


def test_workers_that_do_not_meter_count_nothing() -> None:
    with closing(SharedStatus.create("none")) as status:
        assert chain_counts.read([status]) == ({}, {})
