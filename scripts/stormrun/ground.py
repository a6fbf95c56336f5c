"""The ground of one storm: a Redis of its own, one host, and what is measured of them.

1. Brews: pushes very many small vCons at full speed.
2. Samples, four times a second: the memory of every process and of Redis, and how long the lists
   are.
3. Probes: pushes single items on a chain of their own meanwhile, and times each to its egress.
4. Reads Redis' slow log: every command that took longer than 5 ms.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import redis
from servers import Redis

from conserver.queue import script
from tests.daemon import Daemon, vcon

SLOW_US = 5000
SAMPLE_S = 0.25
PROBE_S = 0.2
PUSH_BATCH = 1000
QUARTER_MIN = 10  # samples, to say how memory grows
NAME = "storm"  # of the connections of this program
SCRIPTS = (
    *("claim", "begin", "write", "settle", "move", "stray"),
    *("return", "reap", "promote", "put_back", "sweep", "beat"),
    *("replay", "purge", "cancel"),
)


@dataclass
class Peaks:
    """The most that was seen of everything."""

    pss_bytes: dict[str, int] = field(default_factory=dict)  # by the process's title
    redis_bytes: int = 0
    lengths: dict[str, int] = field(default_factory=dict)  # by key
    rss_bytes: dict[str, list[int]] = field(default_factory=dict)  # by title, each that was seen

    def growth_percent(self) -> dict[str, float]:
        """How much more each process had at most in the last quarter of the time than in the
        second: the first is its warm-up.
        """
        found = {}
        for name, seen in self.rss_bytes.items():
            quarter = len(seen) // 4
            if quarter >= QUARTER_MIN:
                early, late = max(seen[quarter : 2 * quarter]), max(seen[-quarter:])
                found[name] = round((late / early - 1) * 100, 1)
        return found

    def raise_to(self, other: Mapping[str, int], mine: dict[str, int]) -> None:
        """Keep the higher of each."""
        for name, value in other.items():
            mine[name] = max(mine.get(name, 0), value)


class Ground:
    """One Redis and one host."""

    def __init__(self, folder: Path, config: Mapping[str, Any], workers: int = 2, **env: str):
        self.folder = folder
        self.redis = Redis({"appendonly": "no", "save": ""})
        self._config = config
        self._workers = workers
        self._environment = {"LOG_LEVEL": "WARNING"} | env
        self.peaks = Peaks()
        self.probes_s: list[float] = []
        self._watched: tuple[str, ...] = ()
        self._over = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.redis)
        with suppress(PermissionError):
            # What others do on this machine must not count as Redis' time.
            os.setpriority(os.PRIO_PROCESS, self.redis.pid, -15)
        self.client: Any = self._stack.enter_context(
            redis.Redis.from_url(self.redis.url, socket_timeout=60, client_name=NAME)
        )
        self.client.config_set("slowlog-log-slower-than", SLOW_US)
        self.client.config_set("slowlog-max-len", 100_000)
        self.daemon = Daemon(
            self.folder / "host",
            self.redis.url,
            self._config,
            "fork",
            self._workers,
            **self._environment,
        )
        self._stack.callback(self.daemon.destroy)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._stack.close()

    # ---- what is brewed --------------------------------------------------------------------------

    def brew(self, lists: list[str], items: int, size_bytes: int = 0) -> None:
        """Store and push so many vCons, on the lists by turns."""
        body = vcon("@@")
        if size_bytes:
            body["dialog"][0]["body"] = "x" * size_bytes
        head, _, rest = orjson.dumps(body).partition(b"@@")
        pipe = self.client.pipeline(transaction=False)
        for number in range(items):
            name = str(uuid.uuid4())
            pipe.set(f"vcon:{name}", head + name.encode() + rest)
            pipe.rpush(lists[number % len(lists)], name)
            if number % (PUSH_BATCH if not size_bytes else 10) == 0:
                pipe.execute()
        pipe.execute()

    # ---- what is measured ------------------------------------------------------------------------

    @property
    def redis_bytes(self) -> int:
        """What Redis uses now."""
        return int(self.client.info("memory")["used_memory"])

    def memory_bytes(self) -> Iterator[tuple[str, int, int]]:
        """Title, PSS (what they share counted by parts) and RSS of each of the host's processes."""
        for pid in self.daemon.pids():
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0").decode()
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            lines = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
            pss, rss = (int(lines[kind].split()[0]) * 1024 for kind in ("Pss", "Rss"))
            yield title.removeprefix("conserver: "), pss, rss

    @contextmanager
    def watched(self, *keys: str, probe: bool = True) -> Iterator[None]:
        """Sample, and probe, while the body runs."""
        self._watched = keys
        threads = [threading.Thread(target=self._sample)]
        if probe:
            threads.append(threading.Thread(target=self._probe))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._over.clear()

    def _sample(self) -> None:
        with redis.Redis.from_url(self.redis.url, client_name=NAME) as client:
            while not self._over.wait(SAMPLE_S):
                peaks = self.peaks
                for title, pss, rss in self.memory_bytes():
                    peaks.raise_to({title: pss}, peaks.pss_bytes)
                    peaks.rss_bytes.setdefault(title, []).append(rss)
                used: Any = client.info("memory")
                peaks.redis_bytes = max(peaks.redis_bytes, used["used_memory"])
                lengths = {key: self.length(client, key) for key in self._watched}
                peaks.raise_to(lengths, peaks.lengths)

    @staticmethod
    def length(client: Any, key: str) -> int:
        """Of a list or a sorted set."""
        kind = client.type(key)
        if kind == b"zset":
            return int(client.zcard(key))
        return int(client.llen(key)) if kind == b"list" else 0

    def _probe(self) -> None:
        """One item after the other: on `probe`, until it is on `probed`."""
        with redis.Redis.from_url(self.redis.url, client_name=NAME) as client:
            while not self._over.wait(PROBE_S):
                began_s = time.monotonic()
                client.rpush("probe", orjson.dumps(vcon()))
                answer: Any = None
                while answer is None and not self._over.is_set():
                    answer = client.blpop(["probed"], 1)
                self.probes_s.append(time.monotonic() - began_s)
        del self.probes_s[:1]  # It has waited for the host's start.

    def until(self, predicate: Callable[[], Any], timeout_s: float) -> float:
        """Wait for something; seconds that it took."""
        began_s = time.monotonic()
        self.daemon.until(predicate, timeout_s)
        return time.monotonic() - began_s

    def cpu_s(self) -> dict[str, float]:
        """Processor time of the host's processes together, and of Redis, since their start."""
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        used = {"host": 0.0, "redis": 0.0}
        for pid in [*(self.daemon.pids() if self.daemon.process else []), self.redis.pid]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            whose = "redis" if pid == self.redis.pid else "host"
            used[whose] += (int(fields[11]) + int(fields[12])) * tick_s
        return used

    def slow_commands(self) -> dict[str, dict[str, float]]:
        """What took Redis longer than 5 ms, by script or command: how often, and the longest.

        What this program itself asked of Redis to brew and to look is left out; what commands of
        Conserver read is not.
        """
        names = {script.load(name).sha: name for name in SCRIPTS}
        found: Counter[str] = Counter()
        longest: dict[str, float] = {}
        for entry in self.client.slowlog_get(100_000):
            if entry["client_name"] == NAME.encode():
                continue
            words = entry["command"].split()
            command = words[0].decode().lower()
            name = names.get(words[1].decode(), "a script") if command == "evalsha" else command
            found[name] += 1
            longest[name] = max(longest.get(name, 0.0), entry["duration"] / 1000)
        return {name: {"count": found[name], "longest_ms": longest[name]} for name in found}

    def scripts(self) -> dict[str, float]:
        """How many scripts were run, and how long one took on average, in ms."""
        stats = self.client.info("commandstats").get("cmdstat_evalsha", {})
        return {"calls": stats.get("calls", 0), "mean_ms": stats.get("usec_per_call", 0) / 1000}

    def figures(self) -> dict[str, Any]:
        """All that was measured so far, ready to be read."""
        probes = sorted(self.probes_s)
        return {
            "peak_mib": {name: round(b / 2**20, 1) for name, b in self.peaks.pss_bytes.items()},
            "rss_growth_percent": self.peaks.growth_percent(),
            "redis_peak_mib": round(self.peaks.redis_bytes / 2**20, 1),
            "peak_lengths": self.peaks.lengths,
            "scripts": self.scripts(),
            "slow": self.slow_commands(),
            "probe_ms": {
                "count": len(probes),
                "median": round(probes[len(probes) // 2] * 1000, 1),
                "worst": round(probes[-1] * 1000, 1),
            }
            if probes
            else {},
        }
