"""The true command at work, counted: started, warmed up, given its items all at once.

And the bare loops of bare.py, started and counted in the same way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import redis

from benchmark import account, loads
from benchmark.contest import Sample
from benchmark.scene import SCRIPTS, Scene
from tests.daemon import Daemon

IN, OUT = "in", "out"
WARM_UP_ITEMS = 200
_LOOK_S = 0.01
_TIMEOUT_S = 600.0
# What is still being written when the last item has appeared belongs to it.
_AFTER_S = 0.1


def config(scene: Scene, links: bool = True, **chain: Any) -> dict[str, Any]:
    """A chain of one tag link, or of none, with all storages of the scene."""
    return {
        "links": {"tag": {"module": "links.tag", "options": {"tags": ["bench"]}}},
        "storages": scene.storages,
        "chains": {
            "main": {
                "links": ["tag"] if links else [],
                "storages": list(scene.storages),
                "ingress_lists": [IN],
                "egress_lists": [OUT],
                **chain,
            }
        },
    }


@contextmanager
def daemon(
    scene: Scene,
    told: Mapping[str, Any],
    workers: int = 1,
    method: str = "fork",
    environment: Mapping[str, str] = {},
) -> Iterator[Daemon]:
    """A daemon in a folder of its own; ended with its processes."""
    # burn.py is a link of ours.
    paths = f"{SCRIPTS.parent}:{SCRIPTS}"
    given = {"LOG_LEVEL": "WARNING", "PYTHONPATH": paths, **environment}
    with tempfile.TemporaryDirectory(prefix="conserver-bench-") as folder:
        running = Daemon(Path(folder), scene.redis_url, told, method, workers, **given)
        running.launch()
        try:
            yield running
        finally:
            running.destroy()


def warm_up(
    scene: Scene, running: Daemon, body_bytes: int = 4000, items: int = WARM_UP_ITEMS
) -> None:
    """Let it do some items, so that every module, plan and connection is there."""
    begun = length(scene.client, OUT)
    loads.stage(scene.client, items, body_bytes)
    loads.release(scene.client, IN)
    wait_for(scene.client, begun + items, running)


def sample(
    scene: Scene,
    running: Daemon,
    items: int,
    body_bytes: int = 4000,
    release: Callable[[redis.Redis], None] | None = None,
) -> Sample:
    """Stage items, let them go, and count until the last is out."""
    warm_up(scene, running, body_bytes, min(WARM_UP_ITEMS, items))
    loads.stage(scene.client, items, body_bytes)
    time.sleep(_AFTER_S)
    meter = Meter(scene, running)
    done = length(scene.client, OUT) + items
    (release or (lambda client: loads.release(client, IN)))(scene.client)
    wait_for(scene.client, done, running)
    return meter.stop(items)


class Meter:
    """What the daemon and the servers spend from its making to `stop`."""

    def __init__(self, scene: Scene, running: Daemon) -> None:
        self._scene = scene
        self._parties = scene.pids() | {"client": account.session(running.pid)}
        self._commands, self._calls = scene.counters()
        self._cpu_s = self._spent()
        self._began_s = time.perf_counter()

    def stop(self, items: int, after_s: float = _AFTER_S) -> Sample:
        """The sample, `after_s` later: for what the last item left to be done."""
        wall_s = time.perf_counter() - self._began_s
        time.sleep(after_s)
        cpu_s = {who: s - self._cpu_s[who] for who, s in self._spent().items()}
        commands, calls = self._scene.counters()
        return Sample(items, wall_s, cpu_s, commands - self._commands, calls - self._calls)

    def _spent(self) -> dict[str, float]:
        return {who: account.cpu_s(pids) for who, pids in self._parties.items()}


def bare(scene: Scene, items: int, body_bytes: int = 4000, **order: Any) -> tuple[Sample, Any]:
    """Run a bare loop. Answers its sample, and what it told."""
    if order["loop"] not in scene.storages and order["loop"] != "burning":
        loads.stage(scene.client, items, body_bytes)
        loads.release(scene.client, IN)
    order |= {"redis": scene.redis_url, "in": IN, "out": OUT, "items": items}
    order |= {"body_bytes": body_bytes}
    if order["loop"] in scene.storages:
        order["options"] = scene.storages[order["loop"]]["options"]
    with bare_process(order) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pids, (commands, calls) = scene.pids(), scene.counters()
        before = {who: account.cpu_s(them) for who, them in pids.items()}
        process.stdin.write(b"go\n")
        process.stdin.flush()
        said = orjson.loads(process.stdout.readline())
        time.sleep(_AFTER_S)
        cpu_s = {who: account.cpu_s(them) - before[who] for who, them in pids.items()}
        after = scene.counters()
        cpu_s["client"] = said["cpu_s"]
        spent = Sample(items, said["wall_s"], cpu_s, after[0] - commands, after[1] - calls)
        return spent, said["told"]


@contextmanager
def bare_process(order: Mapping[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of bare.py, ready to go."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmark.bare", orjson.dumps(order).decode()],
        cwd=SCRIPTS,
        env={**os.environ, "PYTHONPATH": f"{SCRIPTS.parent}:{SCRIPTS}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the bare loop {order['loop']} did not start")
        yield process
    finally:
        process.kill()
        process.communicate()


def length(client: redis.Redis, name: str) -> int:
    """How long a list is."""
    return int(client.llen(name))


def wait_for(
    client: redis.Redis, items: int, running: Daemon | None = None, name: str = OUT
) -> None:
    """Wait until so many items are out, on the list of this name. Raises TimeoutError."""
    deadline = time.monotonic() + _TIMEOUT_S
    while length(client, name) < items:
        if time.monotonic() > deadline:
            tail = running.tail() if running else ""
            raise TimeoutError(f"{length(client, name)} of {items} items after a long time\n{tail}")
        time.sleep(_LOOK_S)
