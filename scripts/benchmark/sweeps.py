"""Cost against batch size, document size, queue length and workers: curves, no targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmark import burdens, loads, ours
from benchmark.contest import Curve, Row, Sample, in_turn
from benchmark.costs import Bench, run_bare, run_daemon

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES_BYTES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000)
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 2, 4)

Contenders = Mapping[str, Callable[[], Sample]]


def sweeps(bench: Bench) -> Row:
    """All four."""
    curves = [_batches(bench), _sizes(bench), _lengths(bench), *_workers(bench)]
    notes = []
    for curve in curves:
        notes.append(f"{curve.name} ({curve.up}), against {curve.across}")
        notes.append(f"{'':24}" + "".join(f"{at:>12,.0f}" for at in curve.at))
        for name, values in curve.lines.items():
            notes.append(f"{name:24}" + "".join(f"{value:12.4g}" for value in values))
    return Row("sweeps", "cost against ...", notes=notes, curves=curves)


def _batches(bench: Bench) -> Curve:
    def at(size: int) -> Contenders:
        # One at a time is ten times the work of many together.
        items = bench.some(0.02 if size < 8 else 0.1, 200)
        return {
            "conserver": lambda: _bursts(bench, items, size),
            "bare batches": lambda: run_bare(bench, items, "batches", batch=size),
        }

    return _cpu(bench, "batch", "items pushed together", BATCHES, at)


def _bursts(bench: Bench, items: int, size: int) -> Sample:
    """Pushed so many at a time, each time to an idle daemon."""
    with bench.scenery.scene() as scene, ours.daemon(scene, ours.config(scene)) as running:
        ours.warm_up(scene, running)
        uuids = loads.stage(scene.client, items)
        scene.client.delete(loads.STAGED, ours.OUT)
        time.sleep(0.1)
        meter = ours.Meter(scene, running)
        for first in range(0, items, size):
            burst = uuids[first : first + size]
            scene.client.rpush(ours.IN, *burst)
            for _ in burst:
                scene.client.blpop([ours.OUT])
        return meter.stop(items)


def _sizes(bench: Bench) -> Curve:
    def at(size: int) -> Contenders:
        items = min(bench.some(0.25), max(400_000_000 // (size + 20_000), 50))
        return {
            "conserver": lambda: run_daemon(bench, items, body_bytes=size),
            "bare batches": lambda: run_bare(bench, items, "batches", size),
        }

    return _cpu(bench, "size", "bytes of a document", SIZES_BYTES, at)


def _lengths(bench: Bench) -> Curve:
    def at(waiting: int) -> Contenders:
        return {"conserver": lambda: burdens.beside(bench, bench.some(0.25), waiting)}

    return _cpu(bench, "length", "items waiting", LENGTHS, at)


def _workers(bench: Bench) -> list[Curve]:
    cpu: list[float] = []
    rate: list[float] = []
    for workers in WORKERS:
        run = partial(run_daemon, bench, bench.items, workers=workers)
        result = in_turn({f"{workers} workers": run}, bench.rounds, bench.say).popitem()[1]
        cpu.append(result.cpu_ms())
        rate.append(result.per_s)
    at = [float(workers) for workers in WORKERS]
    return [
        Curve("workers", "workers", "CPU ms per item", at, {"conserver": cpu}),
        Curve("throughput", "workers", "items a second", at, {"conserver": rate}),
    ]


def _cpu(
    bench: Bench, name: str, across: str, values: Sequence[int], at: Callable[[int], Contenders]
) -> Curve:
    lines: dict[str, list[float]] = {}
    for value in values:
        bench.say(f"{name} {value}")
        found = in_turn(at(value), bench.rounds, _quietly)
        for who, result in found.items():
            lines.setdefault(f"{who}, client", []).append(result.cpu_ms())
            lines.setdefault(f"{who}, Redis", []).append(result.servers_ms)
    return Curve(name, across, "CPU ms per item", [float(value) for value in values], lines)


def _quietly(what: str) -> None:
    """What is measured has been said already."""
