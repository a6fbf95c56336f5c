"""Rows: a million items waiting, a large configuration, 200 lists, busy threads, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import orjson
import redis

from benchmark import account, loads, ours
from benchmark.contest import Result, Row, Sample, Verdict, in_turn, percentile_ms
from benchmark.costs import THREE, Bench
from benchmark.scene import Scene
from tests.daemon import Daemon

MILLION = 1_000_000
LISTS = 200
THREADS = 4
# About 20 ms of Python.
_TURNS = 400_000
_CONFIG_BYTES = 10_000
# A worker gives memory back when it has been idle for a second.
_REST_S = 3
# The keys and elements that wait take about this share of a real item's 4.7 KB.
_WAITING_BYTES = 500


def scale(bench: Bench) -> Row:
    """Cost per item beside a million waiting ones, with a long configuration, over 200 lists."""
    found = in_turn(
        {
            "small case": lambda: _daemon(bench),
            "10^6 items waiting": lambda: beside(bench, bench.items, MILLION),
            "10 KB of configuration": lambda: _daemon(bench, _long_config),
            "200 ingress lists": lambda: _over_lists(bench),
        },
        bench.rounds,
        bench.say,
    )
    small, million, config, lists = found.values()

    def verdicts(what: str, one: Result, most: float) -> Iterator[Verdict]:
        yield Verdict(f"{what}: CPU, of the small case's", one.cpu_ms() / small.cpu_ms(), most, "x")
        servers = one.servers_ms / small.servers_ms
        yield Verdict(f"{what}: Redis's CPU, of the small case's", servers, most, "x")

    return Row(
        "scale",
        "much that waits, much configured",
        list(found.values()),
        [
            *verdicts("10^6 items waiting", million, 1.1),
            *verdicts("10 KB of configuration", config, 1.1),
            *verdicts("200 ingress lists", lists, 1.4),
        ],
    )


def _daemon(bench: Bench, change: Any = None) -> Sample:
    with bench.scenery.scene() as scene:
        config = ours.config(scene)
        if change:
            change(config)
        with ours.daemon(scene, config) as running:
            return ours.sample(scene, running, bench.items)


def beside(bench: Bench, items: int, waiting: int) -> Sample:
    """So many elements wait, many for each document, among as many other keys; measured over the
    first of them.
    """
    with bench.scenery.scene() as scene, ours.daemon(scene, ours.config(scene)) as running:
        ours.warm_up(scene, running)
        client = scene.client
        client.execute_command("DEBUG", "POPULATE", waiting, "vcon", _WAITING_BYTES)
        uuids = loads.stage(client, items)
        for _ in range(waiting // len(uuids)):
            client.rpush(loads.STAGED, *uuids)
        time.sleep(2)  # the AOF of all this goes to disk first
        begun = ours.length(client, ours.OUT)
        meter = ours.Meter(scene, running)
        loads.release(client, ours.IN)
        ours.wait_for(client, begun + items, running)
        # It goes on with the next ones: what is out by now has been paid for.
        spent = meter.stop(items, after_s=0)
        spent.items = ours.length(client, ours.OUT) - begun
        return spent


def _long_config(config: dict[str, Any]) -> None:
    """Further links and chains, until the file has 10 KB."""
    number = 0
    while len(orjson.dumps(config)) < _CONFIG_BYTES:
        number += 1
        tags = {"tags": [f"team:{number}", f"site:{number}"]}
        config["links"][f"tag_{number}"] = {"module": "links.tag", "options": tags}
        config["chains"][f"chain_{number}"] = {
            "links": [f"tag_{number}"],
            "ingress_lists": [f"calls_{number}"],
            "egress_lists": [f"done_{number}"],
        }


def _over_lists(bench: Bench) -> Sample:
    names = [f"in_{number}" for number in range(LISTS - 1)]

    def release(client: redis.Redis) -> None:
        """Deal the staged items out, then let all lists appear at the same moment."""
        uuids = cast("list[bytes]", client.lrange(loads.STAGED, 0, -1))
        client.delete(loads.STAGED)
        pipe = client.pipeline(transaction=True)
        for number, name in enumerate(names):
            pipe.rpush(name, *uuids[number :: len(names)])
        pipe.execute()

    with bench.scenery.scene() as scene:
        config = ours.config(scene, ingress_lists=[ours.IN, *names])
        with ours.daemon(scene, config) as running:
            return ours.sample(scene, running, bench.items, release=release)


def busy(bench: Bench) -> Row:
    """A link that computes in 4 threads: how long a finished item waits to be settled, and what the
    links get done, beside the same work alone.
    """
    items = min(bench.some(0.01, 60), 200)
    waited: list[float] = []
    found = in_turn(
        {
            "conserver": lambda: _busy_daemon(bench, items, waited),
            "the links alone": lambda: _busy_alone(bench, items),
        },
        bench.rounds,
        bench.say,
    )
    mine, alone = found.values()
    return Row(
        "busy",
        f"a computing link in {THREADS} threads",
        list(found.values()),
        [
            Verdict("from the link's end to egress, p99", percentile_ms(waited, 99), 20, "ms"),
            Verdict("from the link's end to egress, p50", percentile_ms(waited, 50), None, "ms"),
            Verdict(
                "links' throughput, of theirs alone",
                mine.per_s / alone.per_s,
                0.85,
                "x",
                least=True,
            ),
        ],
    )


def _busy_daemon(bench: Bench, items: int, waited: list[float]) -> Sample:
    with bench.scenery.scene() as scene:
        config = ours.config(scene)
        config["links"]["tag"] = {"module": "benchmark.burn", "options": {"turns": _TURNS}}
        with ours.daemon(
            scene, config, environment={"CONSERVER_VCON_CONCURRENCY": str(THREADS)}
        ) as running:
            ours.warm_up(scene, running, items=8)
            scene.client.delete(ours.OUT)
            loads.stage(scene.client, items)
            meter = ours.Meter(scene, running)
            loads.release(scene.client, ours.IN)
            arrived = [_arrival(scene.client) for _ in range(items)]
            spent = meter.stop(items)
            waited += [(at_ns - _burnt_ns(scene, uuid)) / 1e9 for uuid, at_ns in arrived]
            return spent


def _arrival(client: redis.Redis) -> tuple[str, int]:
    popped = cast("tuple[bytes, bytes] | None", client.blpop([ours.OUT], timeout=60))
    assert popped is not None
    return popped[1].decode(), time.monotonic_ns()


def _burnt_ns(scene: Scene, identity: str) -> int:
    vcon = orjson.loads(cast("bytes", scene.client.get(f"vcon:{identity}")))
    return int(vcon["analysis"][-1]["body"])


def _busy_alone(bench: Bench, items: int) -> Sample:
    with bench.scenery.scene() as scene:
        return ours.bare(scene, items, loop="burning", threads=THREADS, turns=_TURNS)[0]


def memory(bench: Bench) -> Row:
    """PSS of the tree with 4 forked workers and three storages: started, at work, at rest again."""
    with (
        bench.scenery.scene(*THREE) as scene,
        ours.daemon(scene, ours.config(scene), workers=4) as running,
    ):
        bench.say("memory")
        ours.warm_up(scene, running, items=20)
        started_mb = _pss_mb(running)
        ours.warm_up(scene, running, items=bench.some(0.2))
        worked_mb = _pss_mb(running)
        time.sleep(_REST_S)
        rested_mb = _pss_mb(running)
        parts = {
            role: account.pss_bytes(running.pids(role)) / 1e6 for role in ("coordinator", "worker")
        }
    return Row(
        "memory",
        "memory of 4 forked workers with three storages, PSS of the tree",
        verdicts=[
            Verdict("after the first items", started_mb, None, "MB"),
            Verdict("at the end of a batch of work", worked_mb, None, "MB"),
            Verdict("at rest after it", rested_mb, 150, "MB"),
        ],
        notes=[
            (
                f"at rest: the coordinator {parts['coordinator']:.0f} MB,"
                f" four workers {parts['worker']:.0f} MB"
            )
        ],
    )


def _pss_mb(running: Daemon) -> float:
    return account.pss_bytes(account.session(running.pid)) / 1e6
