"""Row: what traces cost, of an item in the queue alone and of one with a tag link.

The collector answers at once and looks at nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmark.contest import Row, Verdict, in_turn
from benchmark.costs import Bench, run_daemon
from tests.standins import Answer, Standin

TENTH: dict[str, Any] = {
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.1",
}


def traces(bench: Bench) -> Row:
    """Traces off, of every item, and of every tenth."""
    items = bench.some(0.5)
    with Standin(lambda _request: Answer(200)) as collector:
        on: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "NO_PROXY": "127.0.0.1"}
        run = partial(run_daemon, bench, items)
        found = in_turn(
            {
                "queue, off": lambda: run(links=False),
                "queue, every item": lambda: run(links=False, **on),
                "queue, every tenth": lambda: run(links=False, **on, **TENTH),
                "tag, off": run,
                "tag, every item": lambda: run(**on),
                "tag, every tenth": lambda: run(**on, **TENTH),
            },
            bench.rounds,
            bench.say,
        )
    cpu_ms = {name: result.cpu_ms() for name, result in found.items()}
    return Row(
        "traces",
        "traces on against off",
        list(found.values()),
        [
            Verdict(
                f"{row}: CPU per item with {share} traced, of that without",
                cpu_ms[f"{row}, {share}"] / cpu_ms[f"{row}, off"],
                None,
                "x",
            )
            for row in ("queue", "tag")
            for share in ("every item", "every tenth")
        ],
    )
