"""Breaks running daemons at random, and counts afterwards that nothing was lost or doubled.

  scripts/chaos --items 2000 --disturbances 50 --seed 7

It starts its own Redis (with AOF), storages and hosts, pushes the items while it kills, stops and
pauses processes, cuts and stalls connections, and fills, restarts and pauses servers. Then it lets
all of it settle, and looks at every item: each must be egressed once (or be the dead letter that it
was meant to be) and be in every storage with the additions of its links, once.
The last line is the account, as JSON. Exit codes: 0 nothing was lost or doubled, 1 something was,
2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from chaosrun.places import PLACES
from chaosrun.run import Options, plan_of, run
from chaosrun.work import SPEECH


def main() -> int:
    """Run as the command line says. Returns the exit code."""
    options, only_plan = _arguments()
    if only_plan:
        for step in plan_of(options):
            print(step)
        return 0
    began_s = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - began_s:7.1f} {text}", file=sys.stderr, flush=True)

    account = run(options, log)
    print(json.dumps(account))
    return 0 if account["good"] else 1


def _arguments() -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--items", type=int, required=True, metavar="M")
    parser.add_argument("--disturbances", type=int, required=True, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="of each host")
    parser.add_argument(
        "--storages", default=",".join(PLACES), help="some of them, by commas; empty for none"
    )
    parser.add_argument("--keep", type=Path, help="a folder where the hosts' logs stay")
    parser.add_argument(
        "--metrics", type=int, default=0, metavar="PORT", help="of host 1; of host 2 the next, ..."
    )
    parser.add_argument(
        "--speech",
        type=int,
        default=SPEECH,
        metavar="N",
        help="calls among ten thousand items; with more than 20, transcribers are disturbed",
    )
    parser.add_argument("--plan", action="store_true", help="only say what would be done")
    given = parser.parse_args()
    storages = tuple(name for name in given.storages.split(",") if name)
    if not set(storages) <= set(PLACES):
        parser.error(f"--storages: there are {', '.join(PLACES)}")
    options = Options(
        items=given.items,
        disturbances=given.disturbances,
        seed=given.seed,
        hosts=given.hosts,
        workers=given.workers,
        storages=storages,
        keep=given.keep,
        speech=given.speech,
        metrics_port=given.metrics,
    )
    return options, given.plan


if __name__ == "__main__":
    sys.exit(main())
