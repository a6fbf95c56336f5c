"""The storms. Each answers its figures; `good` among them: whether everything ended as it must."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stormrun.ground import Ground
from stormrun.largest import limit_ms, measure

Figures = dict[str, Any]
PATIENCE_S = 3600.0
MIB = 2**20


def waiting(folder: Path, items: int) -> Figures:
    """Very much waits on one list when the host starts."""
    with Ground(folder, _config(folder)) as ground:
        empty = ground.redis_bytes
        ground.brew(["in"], items)
        full = ground.redis_bytes
        before_s = ground.cpu_s()
        with ground.watched("in"):
            ground.daemon.launch()
            took_s = ground.until(lambda: ground.client.llen("out") >= items, PATIENCE_S)
            settled, cpu_s = ground.redis_bytes, ground.cpu_s()
        return _figures(ground, items, took_s) | {
            "redis_bytes_per_item": {
                "waiting": round((full - empty) / items),
                "settled": round((settled - empty) / items),
            },
            "cpu_us_per_item": {
                whose: round((cpu_s[whose] - before_s[whose]) / items * 1e6) for whose in cpu_s
            },
        }


def parked(folder: Path, items: int) -> Figures:
    """Very much is parked, and all of it is due at the same moment."""
    foul = folder / "foul"
    config = _config(folder, mood="park")
    with Ground(folder, config, CONSERVER_PARKED_CAP=str(2 * items)) as ground:
        ground.brew(["in"], items)
        patience_s = 8 + items / 1000
        due_s = 0.0

        def all_parked() -> bool:
            """On a slow machine some are due before the last one is parked: all get more time."""
            nonlocal due_s, patience_s
            if time.time() >= due_s:
                due_s = time.time() + patience_s
                patience_s *= 2
                (folder / "later").write_text(str(due_s))
                (folder / "later").replace(foul)
            return bool(ground.client.zcard("conserver:parked:in") >= items)

        all_parked()
        ground.daemon.launch()
        with ground.watched("conserver:parked:in", "conserver:returned:in"):
            ground.until(all_parked, PATIENCE_S)
            per_item = ground.redis_bytes
            foul.unlink()
            ground.until(lambda: time.time() >= due_s, PATIENCE_S)
            took_s = ground.until(lambda: ground.client.llen("out") >= items, PATIENCE_S)
        return _figures(ground, items, took_s) | {"redis_parked_mib": round(per_item / MIB, 1)}


def dead(folder: Path, items: int) -> Figures:
    """Very many dead letters are sent to work again by one command."""
    foul = folder / "foul"
    with Ground(folder, _config(folder)) as ground:
        ground.brew(["in"], items)
        foul.touch()
        ground.daemon.launch()
        with ground.watched("DLQ:in", "conserver:returned:in"):
            ground.until(lambda: ground.client.llen("DLQ:in") >= items, PATIENCE_S)
            foul.unlink()
            began_s = time.monotonic()
            command = [sys.executable, "-m", "conserver", "dlq", "requeue", "--reason", "rejected"]
            environment = os.environ | {
                "REDIS_URL": ground.redis.url,
                "CONSERVER_CONFIG_FILE": str(ground.daemon.config_file),
            }
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            requeued_s = time.monotonic() - began_s
            ground.until(lambda: ground.client.llen("out") >= items, PATIENCE_S)
            took_s = time.monotonic() - began_s
        return _figures(ground, items, took_s) | {"requeued_s": round(requeued_s, 1)}


def lists(folder: Path, items: int) -> Figures:
    """Two hundred ingress lists, all of them full."""
    names = [f"in{number:03}" for number in range(200)]
    with Ground(folder, _config(folder, names)) as ground:
        ground.brew(names, items)
        with ground.watched(names[-1]):
            ground.daemon.launch()
            took_s = ground.until(lambda: ground.client.llen("out") >= items, PATIENCE_S)
            # And all but the last of them empty.
            began = ground.scripts()["calls"]
            ground.brew(names[-1:], items)
            last_s = ground.until(lambda: ground.client.llen("out") >= 2 * items, PATIENCE_S)
        return _figures(ground, 2 * items, took_s + last_s) | {
            "only_the_last_per_s": round(items / last_s),
            "scripts_then": ground.scripts()["calls"] - began,
        }


def away(folder: Path, items: int) -> Figures:
    """A storage is away while very much is pushed: a tenth of it may be parked, the rest waits."""
    foul = folder / "foul"
    foul.touch()
    cap = items // 10
    config = _config(folder, storage=True)
    with Ground(folder, config, CONSERVER_PARKED_CAP=str(cap)) as ground:
        ground.daemon.launch()
        with ground.watched("in", "conserver:parked:in", "conserver:returned:in"):
            ground.brew(["in"], items)
            ground.until(lambda: ground.client.zcard("conserver:parked:in") >= cap, PATIENCE_S)
            hold_until_s = time.monotonic() + 3
            ground.until(lambda: time.monotonic() > hold_until_s, 20)
            foul.unlink()
            took_s = ground.until(lambda: ground.client.llen("out") >= items, PATIENCE_S)
        return _figures(ground, items, took_s) | {"cap": cap}


def large(folder: Path, items: int) -> Figures:
    """Documents of 256 KiB, the largest that a script answers."""
    with Ground(folder, _config(folder)) as ground:
        ground.brew(["in"], items, size_bytes=255 * 1024)
        with ground.watched("in"):
            ground.daemon.launch()
            took_s = ground.until(lambda: ground.client.llen("out") >= items, PATIENCE_S)
        return _figures(ground, items, took_s)


def calls(_folder: Path, rounds: int) -> Figures:
    """No storm: how long Redis is busy with the largest call of each script."""
    shortest_ms = measure(rounds)
    too_long = [name for name, ms in shortest_ms.items() if ms > limit_ms(name)]
    return {"good": not too_long, "too_long": too_long, "ms": shortest_ms}


STORMS: dict[str, tuple[Callable[[Path, int], Figures], int]] = {
    "waiting": (waiting, 1_000_000),
    "parked": (parked, 100_000),
    "dead": (dead, 100_000),
    "lists": (lists, 50_000),
    "away": (away, 100_000),
    "large": (large, 4_000),
    "calls": (calls, 12),
}
"""Each with the number of items that it is meant for."""


def _config(
    folder: Path,
    ingress: list[str] | None = None,
    *,
    mood: str = "reject",
    storage: bool = False,
) -> dict[str, Any]:
    """The storm's chain, and one beside it that is probed meanwhile: it gets a share by weight."""
    options = {"file": str(folder / "foul")}
    link = {"file": str(folder / "never") if storage else options["file"], "mood": mood}
    return {
        "links": {"weather": {"module": "tests.modules.weather", "options": link}},
        "storages": {"weather": {"module": "tests.modules.weather", "options": options}},
        "chains": {
            "storm": {
                "links": ["weather"],
                "storages": ["weather"] if storage else [],
                "ingress_lists": ingress or ["in"],
                "egress_lists": ["out"],
            },
            "probe": {"links": [], "ingress_lists": ["probe"], "egress_lists": ["probed"]}
            | {"weight": 2},
        },
    }


def _figures(ground: Ground, items: int, took_s: float) -> Figures:
    client, figures = ground.client, ground.figures()
    out = client.lrange("out", 0, -1)
    names = [name.decode() for name in client.smembers("conserver:lists")]
    places = ("{}", "conserver:returned:{}", "conserver:suspects:{}", "conserver:parked:{}")
    left = client.exists(*(place.format(n) for n in names for place in (*places, "DLQ:{}")))
    good = len(out) == len(set(out)) == items and not left
    # A host that ends well has nothing in flight, and is forgotten.
    good = good and ground.daemon.stop() == 0 and not client.exists("conserver:hosts")
    summary = {"good": good, "items": items, "seconds": round(took_s, 1)}
    return summary | {"per_s": round(items / took_s)} | figures
