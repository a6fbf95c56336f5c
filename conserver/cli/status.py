"""`conserver status`: what waits, what runs, what is dead, and who works on it."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from conserver.cli import census
from conserver.cli.base import (
    Client,
    Output,
    age_text,
    configured_lists,
    load_settings,
    note,
    redis_client,
)
from conserver.cli.census import Parked
from conserver.cli.hosts import Host, read_hosts
from conserver.cli.tables import Marked, Style, lines_of

if TYPE_CHECKING:
    from rich.console import Console

_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_PACE_WINDOW_S = 15.0


class Pace:
    """How fast the hosts work, by what their beats tell.

    A beat comes every few seconds: between two of them nothing new is known, and a look that meets
    the same beat again must not take that for rest. A worker that is replaced counts from nothing,
    so each is followed by its pid.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._totals: dict[str, deque[tuple[float, int]]] = {}

    def look(self, hosts: Sequence[Host]) -> float | None:
        """Items done per second, lately; None until two beats of a host have been seen."""
        for host in hosts:
            self._hear(host)
        rates = []
        for host in hosts:
            seen = self._totals[host.id]
            (began_s, before), (now_s, after) = seen[0], seen[-1]
            if host.beats and now_s > began_s:
                rates.append((after - before) / (now_s - began_s))
        return sum(rates) if rates else None

    def _hear(self, host: Host) -> None:
        first = host.id not in self._totals
        seen = self._totals.setdefault(host.id, deque())
        if seen and seen[-1][0] == host.beat_at_s:
            return
        total = seen[-1][1] if seen else 0
        for worker in host.workers:
            key = (host.id, int(worker.get("pid") or 0))
            done = int(worker.get("done", 0))
            if not first:
                total += max(done - self._counts.get(key, 0), 0)
            self._counts[key] = done
        seen.append((host.beat_at_s, total))
        while len(seen) > 2 and seen[-1][0] - seen[0][0] > _PACE_WINDOW_S:
            seen.popleft()


def status(output: Output, config_file: str = "", *, watch_s: float = 0) -> int:
    """Shows it once, or every `watch_s` seconds until interrupted; then with rates.

    Whoever watches wants to see Redis come back: once it has answered, its absence ends nothing.
    """
    from redis import exceptions

    found = load_settings(config_file)
    configured = configured_lists(found)
    pace = Pace()
    with redis_client(found) as client:
        while True:
            try:
                now = survey(client, configured, pace)
                output.value(now)
                if not output.as_json:
                    _show(output.screen, now, again=bool(watch_s))
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                if not watch_s:
                    raise
                note(f"warning: Redis does not answer, asking again: {error}")
            if not watch_s:
                return 0
            time.sleep(watch_s)


def survey(client: Client, configured: list[str], pace: Pace) -> dict[str, Any]:
    """Everything that `status` shows, as plain data.

    Args:
        configured: the lists of the configuration here.
        pace: what earlier surveys learned of the rate; this one adds to it.
    """
    hosts = read_hosts(client)
    paused = census.paused_lists(client)
    names = list(dict.fromkeys([*census.all_names(client, configured), *paused]))
    served = {name for host in hosts if host.beats for name in host.lists}
    depths = census.depths(client, names)
    parked = census.parked(client, [name for name in names if depths[name].parked])
    lists = [
        {
            "name": name,
            **asdict(depth),
            "paused": name in paused,
            "served": name in served,
            "waits": asdict(parked[name]) if name in parked else None,
        }
        for name, depth in depths.items()
    ]
    rate = pace.look(hosts)
    waiting = sum((depth.queued or 0) + (depth.returned or 0) for depth in depths.values())
    return {
        "at": time.time(),
        "lists": lists,
        "hosts": [{**asdict(host), "consumes": host.consumes} for host in hosts],
        "breakers": list(_breakers(hosts)),
        "in_flight": census.in_flight(client),
        "done": sum(worker.get("done", 0) for host in hosts for worker in host.workers),
        "rate_per_s": None if rate is None else round(rate, 2),
        "drained_in_s": round(waiting / rate) if rate and waiting else None,
    }


def _breakers(hosts: Sequence[Host]) -> Iterator[dict[str, Any]]:
    """Each storage that a living host writes to, and for how many workers its breaker is open."""
    workers = [(host, worker) for host in hosts if host.beats for worker in host.workers]
    for name in sorted({name for host in hosts if host.beats for name in host.storages}):
        those = [worker for host, worker in workers if name in host.storages]
        away = sum(name in worker.get("away", ()) for worker in those)
        yield {"storage": name, "open": away, "workers": len(those)}


def _show(screen: Console, found: dict[str, Any], *, again: bool) -> None:
    """Writes it in one piece; over what is there, if it is shown again and again."""
    lines = [*_lists(screen, found), "", _totals(found), "", *_away(screen, found)]
    if found["hosts"]:
        rows = [row for host in found["hosts"] for row in _rows(host)]
        lines += lines_of(screen, _WORKER_COLUMNS, rows)
    if again and screen.is_terminal:
        text = _HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW
    else:
        text = "\n".join(lines).rstrip("\n") + "\n"
        if again:  # One frame after the other: each says of when it is, and an empty line ends it.
            at = datetime.fromtimestamp(found["at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            text = f"{at}\n{text}\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    if not found["hosts"]:
        note("no host is running")


def _away(screen: Console, found: dict[str, Any]) -> list[str]:
    """The storages that are away, if any are."""
    rows = [
        (one["storage"], Marked("open", "bad"), f"{one['open']} of {one['workers']}")
        for one in found["breakers"]
        if one["open"]
    ]
    return [*lines_of(screen, ("storage", "breaker", "for workers"), rows), ""] if rows else []


_LIST_COLUMNS = ("list", "queued", "returned", "suspects", "parked", "dead", "remarks")


def _lists(screen: Console, found: dict[str, Any]) -> list[str]:
    rows = [
        (
            entry["name"],
            _count(entry["queued"]),
            _count(entry["returned"]),
            _count(entry["suspects"], "warning"),
            _count(entry["parked"], "warning"),
            _count(entry["dead"], "bad"),
            _remarks(entry),
        )
        for entry in found["lists"]
    ]
    shown = len(_LIST_COLUMNS) if any(row[-1] for row in rows) else -1
    return lines_of(screen, _LIST_COLUMNS[:shown], [row[:shown] for row in rows])


def _totals(found: dict[str, Any]) -> str:
    line = f"{found['in_flight']} in flight, {found['done']} done by the present workers"
    if found["rate_per_s"] is not None:
        line += f", {found['rate_per_s']:.3g} per second"
    if found["drained_in_s"] is not None:
        line += f", drained in {age_text(found['drained_in_s'])}"
    return line


_WORKER_COLUMNS = (
    "host", "process", "pid", "state", "done", "failed", "held", "MiB", "restarts", "at work on",
)  # fmt: skip


def _rows(host: dict[str, Any]) -> list[tuple[object, ...]]:
    state: object = host["state"]
    if not host["beat_at_s"]:
        state = Marked("has not beaten yet", "warning")
    elif host["beat_age_s"] >= host["lease_s"]:
        state = Marked(f"silent for {age_text(host['beat_age_s'])}", "bad")
    elif not host["pid"]:
        state = "starting"  # Its coordinator beats, and the supervisor has not told of itself yet.
    up = f"up {age_text(max(time.time() - host['started_at'], 0))}, version {host['version']}"
    if not host["version"]:
        up = ""  # It has told nothing of itself.
    supervisor = (host["name"], "supervisor", host["pid"] or "", state, "", "", "", "", "", up)
    return [supervisor, *(_worker(worker) for worker in host["workers"])]


def _worker(worker: dict[str, Any]) -> tuple[object, ...]:
    state = str(worker.get("state"))
    return (
        "",
        f"worker {worker.get('slot')}",
        worker.get("pid"),
        Marked(state, "warning") if state == "waiting" else state,
        worker.get("done"),
        worker.get("failed"),
        worker.get("held"),
        round(worker.get("rss_bytes", 0) / (1 << 20)),
        worker.get("restarts"),
        _current(worker),
    )


def _current(worker: dict[str, Any]) -> str:
    """The item that has been at work for the longest time, or when the worker starts again."""
    running = [item for item in worker.get("items", []) if item["phase"] != "held"]
    if not running:
        after_s = worker.get("backoff_s")
        return f"starts again in {age_text(after_s)}" if after_s else ""
    item = max(running, key=lambda entry: float(entry["since_s"]))
    where = item["link"] or item["phase"]
    what = item["uuid"] or "a pushed document"
    others = f", and {len(running) - 1} more" if len(running) > 1 else ""
    return f"{what} in {item['chain']}/{where} for {age_text(item['since_s'])}{others}"


def _count(value: int | None, style: Style = "") -> object:
    if value is None:
        return Marked("wrong type", "bad")
    return Marked(value, style) if value and style else value


def _remarks(entry: dict[str, Any]) -> object:
    remarks = []
    if entry["paused"]:
        remarks.append("paused")
    if not entry["served"]:
        remarks.append("nobody serves it")
    if entry["waits"]:
        remarks.append(_waits(Parked(**entry["waits"])))
    text = "; ".join(remarks)
    return Marked(text, "warning") if text else ""


def _waits(parked: Parked) -> str:
    """What parked items wait for: `waits for storage pg and for retries, the next is due now`."""
    names = list(parked.storages)
    what = [f"for storage{'s' if len(names) > 1 else ''} {', '.join(names)}"] if names else []
    if parked.retries:
        what.append("for retries")
    when = f"in {age_text(parked.due_in_s)}" if parked.due_in_s > 0 else "now"
    return f"waits {' and '.join(what)}, the next is due {when}"
