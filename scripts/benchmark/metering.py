"""Row: what metrics cost, of an item in the queue alone and of one with a tag link.

On and off take turns within a round, and the ratio is taken round by round: what disturbs the
machine for a while disturbs both. Nobody scrapes meanwhile: a
scrape is no cost of an item.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

from servers import free_port

from benchmark.contest import Result, Row, Sample, Verdict, in_turn
from benchmark.costs import Bench, run_daemon

MOST = 1.02


def metrics(bench: Bench) -> Row:
    """Metrics off and on."""

    def on(*, links: bool = True) -> Sample:
        port = str(free_port())
        return run_daemon(bench, bench.items, links=links, CONSERVER_METRICS_PORT=port)

    off = partial(run_daemon, bench, bench.items)
    contenders: dict[str, Callable[[], Sample]] = {
        "queue, off": partial(off, links=False),
        "queue, on": partial(on, links=False),
        "tag, off": off,
        "tag, on": on,
    }
    found = in_turn(contenders, bench.rounds, bench.say)
    return Row(
        "metrics",
        "metrics on against off",
        list(found.values()),
        [
            Verdict(
                f"{row}: CPU per item, of that without, median of the rounds' ratios",
                _ratio(found[f"{row}, on"], found[f"{row}, off"]),
                MOST,
                "x",
            )
            for row in ("queue", "tag")
        ],
    )


def _ratio(one: Result, other: Result) -> float:
    pairs = zip(one.samples, other.samples, strict=True)
    return statistics.median(a.cpu_s["client"] / b.cpu_s["client"] for a, b in pairs)
