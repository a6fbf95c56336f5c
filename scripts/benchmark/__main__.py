"""What Conserver costs, beside the bare loops that do the same work without any guarantee.

  scripts/bench                     every row of the table
  scripts/bench --rows tag,three    these only; --rows help lists them
  scripts/bench --quick             a tenth of the items, one round: a look, no figures to quote
  scripts/bench --real              the true S3 and Elasticsearch instead of stand-ins
  scripts/bench speech              transcription, beside bare faster-whisper
  scripts/bench documents           documents: error rates, and one page reader beside two
  scripts/bench api                 the HTTP API instead, see scripts/bench api --help
  scripts/bench dashboard           its pages, with 200 lists and 200 workers

It starts servers of its own and touches no others. Each row runs the daemon and the bare loops in
turn; what is printed are medians and ratios. No clock is asserted: the exit code is 0 whatever is
measured.
"""

from __future__ import annotations

import argparse
import compileall
import sys
from pathlib import Path

from benchmark import (
    api,
    burdens,
    costs,
    dashboard,
    metering,
    plots,
    report,
    sweeps,
    times,
    tracing,
)
from benchmark.costs import Bench
from benchmark.scene import Scenery

ROWS = {
    "queue": costs.queue,
    "tag": costs.tag,
    "postgres": costs.postgres,
    "three": costs.three,
    "parallel": times.parallel,
    "idle": times.idle,
    "start": times.start,
    "memory": burdens.memory,
    "scale": burdens.scale,
    "busy": burdens.busy,
    "large": costs.large,
    "sweeps": sweeps.sweeps,
    "traces": tracing.traces,
    "metrics": metering.metrics,
}


def main() -> int:
    """Measure what was asked for."""
    if sys.argv[1:2] == ["speech"]:
        from benchmark import speech

        return speech.main(sys.argv[2:])
    if sys.argv[1:2] == ["documents"]:
        from benchmark import documents

        return documents.main(sys.argv[2:])
    if sys.argv[1:2] == ["api"]:
        return api.main(sys.argv[2:])
    if sys.argv[1:2] == ["dashboard"]:
        return dashboard.main(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, by their names")
    parser.add_argument("--items", type=int, default=20_000, help="vCons in the cheapest rows")
    parser.add_argument("--rounds", type=int, default=5, help="how often every contender runs")
    parser.add_argument("--quick", action="store_true", help="2000 items, one round")
    parser.add_argument("--real", action="store_true", help="true S3 and Elasticsearch")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--plots", type=Path, help="write plots to this folder (needs matplotlib)")
    asked = parser.parse_args()
    names = asked.rows.split(",")
    if not set(names) <= set(ROWS):
        print(f"rows: {', '.join(ROWS)}")
        return 0 if asked.rows == "help" else 2
    items, rounds = (2000, 1) if asked.quick else (asked.items, asked.rounds)
    # As an installation has them: a checkout may forbid Python to write what it has compiled.
    for package in ("conserver", "storage"):
        compileall.compile_dir(Path(__file__).resolve().parents[2] / package, quiet=1)
    scenery = Scenery(asked.real)
    rows = []
    try:
        bench = Bench(scenery, items, rounds, _say)
        for name in names:
            rows.append(ROWS[name](bench))
            print(report.block(rows[-1]), flush=True)
    finally:
        scenery.close()
    print(report.table(rows))
    if asked.json:
        report.write_json(asked.json, rows, {"items": items, "rounds": rounds, "real": asked.real})
    if asked.plots:
        print(plots.write(asked.plots, rows))
    return 0


def _say(what: str) -> None:
    print(f"\r\033[K... {what}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
