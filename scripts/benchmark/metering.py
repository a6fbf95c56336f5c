"""Row: what metrics cost, of an item in the queue alone and of one with a tag link.

Two daemons of one worker each, metrics off and on, stand side by side at one Redis and get slices
of items in the order off, on, on, off: what disturbs the machine for a while disturbs both, and
what grows with time cancels out. Only the workers' CPU counts. A round has daemons of its own,
because processes of one program differ among themselves, too; so a round's ratio is one
observation, and the standard error is over rounds. Nobody scrapes meanwhile: a scrape is no cost of
an item.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

from servers import free_port

from benchmark import account, loads, ours
from benchmark.contest import Result, Row, Sample, Verdict
from benchmark.costs import Bench
from benchmark.scene import Scene
from tests.daemon import Daemon

MOST = 1.02
SLICES = ("off", "on", "on", "off") * 3
_SETTLED_S = 0.1


def metrics(bench: Bench) -> Row:
    """Metrics off and on."""
    rows = {"queue": False, "tag": True}
    results = {(row, at): Result(f"{row}, {at}") for row in rows for at in ("off", "on")}
    for number in range(bench.rounds):
        for row, links in rows.items():
            bench.say(f"{row} ({number + 1}/{bench.rounds})")
            # Whoever is started first has no advantage over all rounds.
            first, second = ("off", "on") if number % 2 == 0 else ("on", "off")
            with (
                bench.scenery.scene() as scene,
                _daemon(scene, first, links) as one,
                _daemon(scene, second, links) as other,
            ):
                sides = {first: one, second: other}
                for at, sample in _take_turns(scene, sides, bench.some(0.2)).items():
                    results[row, at].samples.append(sample)
    verdicts: list[Verdict] = []
    for row in rows:
        mean, error = _ratio(results[row, "on"], results[row, "off"])
        what = f"{row}: workers' CPU per item, of that without"
        verdicts.append(Verdict(f"{what}, mean of the rounds' ratios", mean, MOST, "x"))
        verdicts.append(Verdict(f"{row}: the standard error of that mean", error, None, "x"))
    return Row("metrics", "metrics on against off", list(results.values()), verdicts)


def _daemon(scene: Scene, at: str, links: bool) -> AbstractContextManager[Daemon]:
    lists = {"ingress_lists": [f"in-{at}"], "egress_lists": [f"out-{at}"]}
    given = {"CONSERVER_METRICS_PORT": str(free_port())} if at == "on" else {}
    # Equal hashes: else sets and dicts of the two collide in different places.
    given["PYTHONHASHSEED"] = "0"
    return ours.daemon(scene, ours.config(scene, links, **lists), environment=given)


def _take_turns(scene: Scene, sides: Mapping[str, Daemon], items: int) -> dict[str, Sample]:
    """What each side's worker has spent on all of its slices."""
    for at in sides:
        _slice(scene, sides[at], at, ours.WARM_UP_ITEMS)
    spent = {at: Sample(0, 0.0, {"client": 0.0}) for at in sides}
    for at in SLICES:
        wall_s, cpu_s = _slice(scene, sides[at], at, items)
        spent[at].items += items
        spent[at].wall_s += wall_s
        spent[at].cpu_s["client"] += cpu_s
    return spent


def _slice(scene: Scene, running: Daemon, at: str, items: int) -> tuple[float, float]:
    """Let one daemon do some items. Returns its time and its worker's CPU, in seconds."""
    loads.stage(scene.client, items)
    worker = [running.worker()]
    began_s, before_s = time.perf_counter(), account.cpu_s(worker)
    loads.release(scene.client, f"in-{at}")
    ours.wait_for(scene.client, items, running, f"out-{at}")
    wall_s = time.perf_counter() - began_s
    time.sleep(_SETTLED_S)
    scene.client.delete(f"out-{at}")
    return wall_s, account.cpu_s(worker) - before_s


def _ratio(one: Result, other: Result) -> tuple[float, float]:
    """The mean of the rounds' ratios, and its standard error."""
    pairs = zip(one.samples, other.samples, strict=True)
    ratios = [a.cpu_s["client"] / b.cpu_s["client"] for a, b in pairs]
    error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    return statistics.mean(ratios), error
