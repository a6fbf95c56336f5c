"""Rows: how long one item takes through an idle system, with storages at once and one after
another, and how soon the first item is out after a start.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import orjson
import redis

from benchmark import loads, ours
from benchmark.contest import Row, Verdict, median_ms, percentile_ms
from benchmark.costs import THREE, Bench
from benchmark.scene import SCRIPTS, Scene

# How long the system has nothing to do before the next item comes.
_PAUSE_S = (0.02, 0.06)
# What S3 and Elasticsearch take to answer, in rows that compare waiting and not computing:
# across a network, and next door.
_FAR_S = 0.02
_NEAR_S = 0.005
_RATE_PER_S = 10
_STORED = "conserver, three storages"


def idle(bench: Bench) -> Row:
    """Push to egress through an idle system, ours and a bare BLPOP worker's; stored in all three
    and by the slowest storage's own client.
    """
    items = min(bench.some(0.02, 100), 400)
    took: dict[str, list[float]] = {}
    for number in range(bench.rounds):
        for name, measure in (
            ("conserver, tag", partial(_through_daemon, bench, items)),
            ("bare BLPOP worker", partial(_through_bare, bench, items)),
            (_STORED, partial(_through_daemon, bench, items, *THREE)),
            *((one, partial(_own_write, bench, items // 2, one)) for one in THREE),
        ):
            bench.say(f"{name} ({number + 1}/{bench.rounds})")
            took.setdefault(name, []).extend(measure())
    p50 = {name: median_ms(them) for name, them in took.items()}
    slowest = max(THREE, key=lambda one: p50[one])
    stored = p50[_STORED]
    notes = [
        f"{name:34} p50 {p50[name]:7.3f} ms   p99 {percentile_ms(them, 99):7.3f} ms"
        for name, them in took.items()
    ]
    through = p50["conserver, tag"] / p50["bare BLPOP worker"]
    return Row(
        "idle",
        f"one item through an idle system{_answers(bench, _NEAR_S)}",
        verdicts=[
            Verdict("push to egress p50, of a bare BLPOP worker's", through, 1.5, "x"),
            Verdict(
                f"stored in all three p50, of {slowest}'s own write",
                stored / p50[slowest],
                1.3,
                "x",
            ),
        ],
        notes=notes,
    )


def parallel(bench: Bench) -> Row:
    """Wall time of an item, push to egress, at a steady rate: its storages at once, one after
    another, and each alone. S3 and Elasticsearch answer as across a network.
    """
    items = min(bench.some(0.005, 30), 100)
    runs: dict[str, tuple[Sequence[str], dict[str, str]]] = {
        "tag alone": ((), {}),
        **{one: ((one,), {}) for one in THREE},
        "all at once": (THREE, {}),
        "one after another": (THREE, {"CONSERVER_PARALLEL_STORAGE": "false"}),
    }
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(bench.rounds):
        for name, (storages, environment) in runs.items():
            bench.say(f"{name} ({number + 1}/{bench.rounds})")
            with (
                bench.scenery.scene(*storages, delay_s=_FAR_S) as scene,
                ours.daemon(scene, ours.config(scene), environment=environment) as running,
            ):
                ours.warm_up(scene, running, items=20)
                took[name] += _at_a_rate(scene, items)
    p50 = {name: median_ms(them) for name, them in took.items()}
    slowest = max(p50[one] for one in THREE)
    # Every chain takes the way through the queue, once.
    total = sum(p50[one] for one in THREE) - 2 * p50["tag alone"]
    return Row(
        "parallel",
        f"storages at once, at {_RATE_PER_S} items a second{_answers(bench, _FAR_S)}",
        verdicts=[
            Verdict("at once, of the slowest alone", p50["all at once"] / slowest, 1.1, "x"),
            Verdict("one after another, of the sum", p50["one after another"] / total, None, "x"),
        ],
        notes=[f"{name:20} p50 {value:8.2f} ms" for name, value in p50.items()],
    )


def start(bench: Bench) -> Row:
    """From the command to the first item out, and what importing alone takes."""
    forked: list[float] = []
    spawned: list[float] = []
    imports: list[float] = []
    for number in range(max(bench.rounds, 3)):
        bench.say(f"starts ({number + 1})")
        forked.append(_first_item(bench, 1, "fork"))
        spawned.append(_first_item(bench, 4, "spawn"))
        imports.append(_imports())
    floor_s = statistics.median(imports)
    return Row(
        "start",
        "start to the first item",
        verdicts=[
            Verdict("one forked worker", statistics.median(forked), 0.35, "s"),
            Verdict("four spawned workers", statistics.median(spawned), 1.2, "s"),
        ],
        notes=[
            f"the import floor: {floor_s:.3f} s for one interpreter with what a worker imports;",
            "spawned are the supervisor, then the coordinator, then four workers at once.",
        ],
    )


def _answers(bench: Bench, delay_s: float) -> str:
    return "" if bench.scenery.real else f"; stand-ins answer after {delay_s * 1000:.0f} ms"


def _through_daemon(bench: Bench, items: int, *storages: str) -> list[float]:
    with (
        bench.scenery.scene(*storages, delay_s=_NEAR_S) as scene,
        ours.daemon(scene, ours.config(scene)) as running,
    ):
        ours.warm_up(scene, running)
        return _one_at_a_time(scene, items)


def _through_bare(bench: Bench, items: int) -> list[float]:
    with bench.scenery.scene() as scene:
        order = {"loop": "one by one", "redis": scene.redis_url, "in": ours.IN, "out": ours.OUT}
        with ours.bare_process(order | {"items": items + 10, "body_bytes": 4000}) as process:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
            return _one_at_a_time(scene, items)


def _own_write(bench: Bench, items: int, storage: str) -> list[float]:
    with bench.scenery.scene(storage, delay_s=_NEAR_S) as scene:
        told = ours.bare(scene, items, loop=storage, way="plain", pause_s=_PAUSE_S[0])[1]
        return cast("list[float]", told)


def _one_at_a_time(scene: Scene, items: int) -> list[float]:
    """Push, wait until it is out, pause, push. Answers how long each was under way, in s."""
    uuids = loads.stage(scene.client, items)
    scene.client.delete(loads.STAGED)
    scene.client.delete(ours.OUT)
    took = []
    for uuid in uuids:
        time.sleep(random.uniform(*_PAUSE_S))
        began_s = time.perf_counter()
        scene.client.rpush(ours.IN, uuid)
        _out(scene.client)
        took.append(time.perf_counter() - began_s)
    return took


def _out(client: redis.Redis) -> str:
    popped = cast("tuple[bytes, bytes] | None", client.blpop([ours.OUT], timeout=60))
    if popped is None:
        raise TimeoutError("an item did not come out within a minute")
    return popped[1].decode()


def _at_a_rate(scene: Scene, items: int) -> list[float]:
    """Push at a steady rate, whatever becomes of them, as a process of its own does."""
    uuids = loads.stage(scene.client, items)
    scene.client.delete(loads.STAGED)
    scene.client.delete(ours.OUT)
    command = [sys.executable, "-m", "benchmark.loads", scene.redis_url, ours.IN, str(_RATE_PER_S)]
    with subprocess.Popen(
        command, cwd=SCRIPTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as pusher:
        assert pusher.stdin is not None
        assert pusher.stdout is not None
        pusher.stdin.write(orjson.dumps(uuids) + b"\n")
        pusher.stdin.flush()
        arrived = {_out(scene.client): time.perf_counter() for _ in uuids}
        pushed = orjson.loads(pusher.stdout.readline())
    # perf_counter is the same clock in all processes of a machine.
    return [arrived[uuid] - pushed[uuid] for uuid in uuids]


def _first_item(bench: Bench, workers: int, method: str) -> float:
    with bench.scenery.scene() as scene:
        loads.stage(scene.client, 1)
        loads.release(scene.client, ours.IN)
        began_s = time.perf_counter()
        with ours.daemon(scene, ours.config(scene), workers, method):
            _out(scene.client)
            return time.perf_counter() - began_s


def _imports() -> float:
    modules = "conserver.worker.loop, conserver.links.tag, conserver.config.model, redis, pydantic"
    command: list[Any] = [sys.executable, "-c", f"import {modules}"]
    began_s = time.perf_counter()
    subprocess.run(command, cwd=SCRIPTS.parent, check=True)
    return time.perf_counter() - began_s
