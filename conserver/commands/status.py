"""`conserver status`: what waits, what runs, what is dead, and who works on it."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

from conserver.commands import census
from conserver.commands.base import (
    Client,
    Output,
    age_text,
    configured_lists,
    load_settings,
    note,
    redis_client,
)
from conserver.commands.hosts import read_hosts

_CLEAR = "\x1b[2J\x1b[H"


def status(output: Output, config_file: str = "", *, watch_s: float = 0) -> int:
    """Shows it once, or every `watch_s` seconds until interrupted; then with rates."""
    found = load_settings(config_file)
    configured = configured_lists(found)
    before: dict[str, Any] | None = None
    with redis_client(found) as client:
        while True:
            now = survey(client, configured, before)
            if watch_s and sys.stdout.isatty():
                output.line(_CLEAR)
            output.value(now)
            _tell(output, now)
            if not watch_s:
                return 0
            before = now
            time.sleep(watch_s)


def survey(
    client: Client, configured: list[str], before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Everything that `status` shows, as plain data.

    Args:
        configured: the lists of the configuration here.
        before: an earlier survey; rates are measured from it to this one.
    """
    hosts = read_hosts(client)
    names = census.all_names(client, configured)
    paused = set(census.paused_lists(client))
    served = {name for host in hosts if host.beats for name in host.lists}
    lists = [
        {"name": name, **asdict(depth), "paused": name in paused, "served": name in served}
        for name, depth in census.depths(client, names).items()
    ]
    done = sum(worker.get("done", 0) for host in hosts for worker in host.workers)
    found: dict[str, Any] = {
        "at": time.time(),
        "lists": lists,
        "hosts": [{**asdict(host), "consumes": host.consumes} for host in hosts],
        "in_flight": census.in_flight(client),
        "done": done,
        "rate_per_s": None,
        "drained_in_s": None,
    }
    if before is not None and done >= before["done"]:
        rate = (done - before["done"]) / max(found["at"] - before["at"], 0.001)
        waiting = sum((entry["queued"] or 0) + (entry["returned"] or 0) for entry in lists)
        found["rate_per_s"] = round(rate, 2)
        found["drained_in_s"] = round(waiting / rate) if rate else None
    return found


def _tell(output: Output, found: dict[str, Any]) -> None:
    output.table(
        "",
        ("list", "queued", "returned", "suspects", "parked", "dead", ""),
        [
            (
                entry["name"],
                *(
                    _count(entry[key])
                    for key in ("queued", "returned", "suspects", "parked", "dead")
                ),
                _remark(entry),
            )
            for entry in found["lists"]
        ],
    )
    line = f"\n{found['in_flight']} in flight, {found['done']} done by the workers that live"
    if found["rate_per_s"] is not None:
        line += f", {found['rate_per_s']:g} per second"
    if found["drained_in_s"] is not None:
        line += f", drained in {age_text(found['drained_in_s'])}"
    output.line(line)
    if not found["hosts"]:
        note("no host is running")
        return
    output.line()
    output.table("", _WORKER_COLUMNS, [row for host in found["hosts"] for row in _rows(host)])


_WORKER_COLUMNS = (
    "host", "process", "pid", "state", "done", "failed", "held", "MiB", "restarts", "at work on",
)  # fmt: skip


def _rows(host: dict[str, Any]) -> list[tuple[object, ...]]:
    age = "" if host["beat_age_s"] < host["lease_s"] else f", silent {age_text(host['beat_age_s'])}"
    rows: list[tuple[object, ...]] = [
        (host["name"], "supervisor", host["pid"], host["state"] + age, "", "", "", "", "", "")
    ]
    rows += [
        (
            "",
            f"worker {worker.get('slot')}",
            worker.get("pid"),
            worker.get("state"),
            worker.get("done"),
            worker.get("failed"),
            worker.get("held"),
            round(worker.get("rss_bytes", 0) / (1 << 20)),
            worker.get("restarts"),
            _current(worker.get("items", [])),
        )
        for worker in host["workers"]
    ]
    return rows


def _current(items: list[dict[str, Any]]) -> str:
    """The item that has been at work for the longest time."""
    running = [item for item in items if item["phase"] != "held"]
    if not running:
        return ""
    item = max(running, key=lambda entry: float(entry["since_s"]))
    where = item["link"] or item["phase"]
    return f"{item['uuid']} in {item['chain']}/{where} for {age_text(item['since_s'])}"


def _count(value: int | None) -> object:
    return "not a list" if value is None else value


def _remark(entry: dict[str, Any]) -> str:
    remarks = []
    if entry["paused"]:
        remarks.append("paused")
    if not entry["served"]:
        remarks.append("nobody serves it")
    return ", ".join(remarks)
