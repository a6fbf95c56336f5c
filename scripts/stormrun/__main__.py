"""Storms: very much of something at once, on the true daemon; figures of time and memory come out.

  scripts/storm                        all of them, at full size: some 20 minutes
  scripts/storm waiting --items 20000  one, smaller

Each storm starts a Redis and a host with two workers. While it rages, single items are pushed on
another chain and timed, the memory of every process is sampled, and Redis keeps a log of every
command that takes longer than 5 ms (by the clock: on a busy machine that log holds others' time
too). One line of JSON per storm; exit code 0 if everything was egressed once and nothing is left.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from stormrun.storms import STORMS


def main() -> int:
    """Run as the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/storm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("storms", nargs="*", metavar="STORM", help=", ".join(STORMS))
    parser.add_argument("--items", type=int, metavar="N", help="instead of each one's own number")
    given = parser.parse_args()
    if unknown := set(given.storms) - set(STORMS):
        parser.error(f"there is no storm {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Leave no process behind.
    good = True
    for name in given.storms or STORMS:
        storm, items = STORMS[name]
        with tempfile.TemporaryDirectory(prefix="conserver-storm-") as folder:
            figures = storm(Path(folder), given.items or items)
        good = good and figures["good"]
        print(json.dumps({"storm": name} | figures), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
