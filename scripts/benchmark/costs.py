"""Rows: CPU per item, of the queue alone, with a tag link, with storages, for large vCons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmark import ours
from benchmark.contest import Result, Row, Sample, Verdict, in_turn
from benchmark.scene import Scenery

THREE = ("postgres", "s3", "elasticsearch")
LARGE_BYTES = 1_000_000


@dataclass
class Bench:
    """How a run was asked for, and what its rows share."""

    scenery: Scenery
    items: int
    rounds: int
    say: Callable[[str], None]

    def some(self, share: float, least: int = 50) -> int:
        """A part of the items, for what takes longer."""
        return max(int(self.items * share), least)


def run_daemon(
    bench: Bench,
    items: int,
    *storages: str,
    links: bool = True,
    body_bytes: int = 4000,
    workers: int = 1,
    **environment: str,
) -> Sample:
    """One sample of the daemon with fresh servers."""
    with (
        bench.scenery.scene(*storages) as scene,
        ours.daemon(scene, ours.config(scene, links), workers, environment=environment) as running,
    ):
        return ours.sample(scene, running, items, body_bytes)


def run_bare(bench: Bench, items: int, loop: str, body_bytes: int = 4000, **order: Any) -> Sample:
    """One sample of a bare loop with fresh servers."""
    needed = [loop] if loop in THREE else []
    with bench.scenery.scene(*needed) as scene:
        return ours.bare(scene, items, body_bytes, loop=loop, **order)[0]


def queue(bench: Bench) -> Row:
    """A chain without links: claim and settle."""
    bare = partial(run_bare, bench, bench.items)
    found = in_turn(
        {
            "conserver": lambda: run_daemon(bench, bench.items, links=False),
            "bare, batches of 32": lambda: bare("batches"),
            "bare, batches of 32, no tag": lambda: bare("batches", tag=False),
            "bare, lean batches, no tag": lambda: bare("lean batches", tag=False),
        },
        bench.rounds,
        bench.say,
    )
    mine, batches, queue_only, lean = found.values()
    return Row(
        "queue",
        "the queue only",
        list(found.values()),
        [
            Verdict(
                "CPU per item, of the bare loop in batches of 32", _ratio(mine, batches), 2, "x"
            ),
            Verdict(
                "the same without parsing, tagging and writing", _ratio(mine, queue_only), None, "x"
            ),
            Verdict("of the leanest such loop", _ratio(mine, lean), None, "x"),
        ],
    )


def tag(bench: Bench) -> Row:
    """One tag link; what INFO logging adds; throughput."""
    bare = partial(run_bare, bench)
    found = in_turn(
        {
            "conserver": lambda: run_daemon(bench, bench.items),
            "bare, batches of 32": lambda: bare(bench.items, "batches"),
            "bare, lean batches": lambda: bare(bench.items, "lean batches"),
            "bare, one by one": lambda: bare(bench.some(0.5), "one by one"),
            "conserver, LOG_LEVEL=INFO": lambda: run_daemon(bench, bench.items, LOG_LEVEL="INFO"),
        },
        bench.rounds,
        bench.say,
    )
    mine, batches, lean, one, info = found.values()
    logging_ms = info.cpu_ms() - mine.cpu_ms()
    return Row(
        "tag",
        "one tag link",
        list(found.values()),
        [
            Verdict(
                "CPU per item, of the bare loop in batches of 32", _ratio(mine, batches), 2.5, "x"
            ),
            Verdict("of the leanest such loop", _ratio(mine, lean), None, "x"),
            Verdict(
                "Redis's CPU, of the bare batches'", mine.servers_ms / batches.servers_ms, None, "x"
            ),
            Verdict("INFO logging adds", logging_ms, 0.02, "ms"),
            Verdict(
                "items a second, of the bare one-by-one loop",
                mine.per_s / one.per_s,
                3,
                "x",
                least=True,
            ),
        ],
    )


def postgres(bench: Bench) -> Row:
    """Tag and PostgreSQL."""
    return _with_storages(bench, "postgres", "tag + PostgreSQL", 0.5, "postgres")


def three(bench: Bench) -> Row:
    """Tag and three storages."""
    return _with_storages(bench, "three", "tag + PostgreSQL + S3 + Elasticsearch", 0.2, *THREE)


def _with_storages(bench: Bench, name: str, title: str, share: float, *storages: str) -> Row:
    items = bench.some(share)
    found = in_turn(
        {
            "conserver, tag": lambda: run_daemon(bench, items),
            "conserver": lambda: run_daemon(bench, items, *storages),
            **_bare_storages(bench, items, storages),
        },
        bench.rounds,
        bench.say,
    )
    tagging, mine = found["conserver, tag"], found["conserver"]
    above_ms = mine.cpu_ms() - tagging.cpu_ms()
    servers_ms = mine.servers_ms - tagging.servers_ms
    plain = _sum(found, "plain", lambda r: r.cpu_ms())
    lean = _sum(found, "lean", lambda r: r.cpu_ms())
    direct = _sum(found, "ours", lambda r: r.cpu_ms())
    plain_servers = _sum(found, "plain", lambda r: r.servers_ms)
    lean_servers = _sum(found, "lean", lambda r: r.servers_ms)
    return Row(
        name,
        title,
        list(found.values()),
        [
            Verdict("CPU above tag's, of the bare clients' sum", above_ms / plain, 1.3, "x"),
            Verdict("of the leanest clients' sum", above_ms / lean, None, "x"),
            Verdict("of our storage modules called directly", above_ms / direct, None, "x"),
            Verdict(
                "servers' CPU above tag's, of the bare clients'",
                servers_ms / plain_servers,
                1.3,
                "x",
            ),
            Verdict("of the leanest clients'", servers_ms / lean_servers, None, "x"),
        ],
    )


def _bare_storages(
    bench: Bench, items: int, storages: tuple[str, ...], body_bytes: int = 4000
) -> dict[str, Callable[[], Sample]]:
    """Every bare client in its ways; boto3 has no leaner one, so that "lean" is ours there."""
    return {
        f"{storage}, {way}": partial(run_bare, bench, items, storage, body_bytes, way=way)
        for storage in storages
        for way in ("plain", "lean", "ours")
        if (storage, way) != ("s3", "lean")
    }


def _sum(found: dict[str, Result], way: str, of: Callable[[Result], float]) -> float:
    storages = {name.partition(",")[0] for name in found} & set(THREE)
    return sum(of(found.get(f"{one}, {way}", found[f"{one}, ours"])) for one in storages)


def large(bench: Bench) -> Row:
    """vCons of 1 MB that no link changes, with three storages."""
    items = max(bench.items // 200, 20)
    found = in_turn(
        {
            "conserver": lambda: run_daemon(
                bench, items, *THREE, links=False, body_bytes=LARGE_BYTES
            ),
            "bare, batches of 32, no tag": lambda: run_bare(
                bench, items, "batches", LARGE_BYTES, tag=False
            ),
            **_bare_storages(bench, items, THREE, LARGE_BYTES),
        },
        bench.rounds,
        bench.say,
    )
    mine, reading = found["conserver"], found["bare, batches of 32, no tag"]
    plain = reading.cpu_ms() + _sum(found, "plain", lambda r: r.cpu_ms())
    lean = reading.cpu_ms() + _sum(found, "lean", lambda r: r.cpu_ms())
    return Row(
        "large",
        "vCons of 1 MB, unchanged, three storages",
        list(found.values()),
        [
            Verdict(
                "CPU per item, of reading and the bare clients", mine.cpu_ms() / plain, 1.3, "x"
            ),
            Verdict("of reading and the leanest clients", mine.cpu_ms() / lean, None, "x"),
        ],
    )


def _ratio(one: Result, other: Result) -> float:
    return one.cpu_ms() / other.cpu_ms()
