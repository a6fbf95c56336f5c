"""`conserver status`: prints lists, hosts, workers, storages that are away, and what is wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from conserver.cli import watching
from conserver.cli.arguments import AsJson, ConfigFile, examples, seconds, typer_app
from conserver.cli.environment import configured_lists, load_settings, redis_client
from conserver.cli.output import Output, age_text, note
from conserver.cli.tables import Marked, Style, lines_of, styled
from conserver.operations.attention import Finding, attention
from conserver.operations.hosts import Host, Throughput
from conserver.operations.overview import ListState, Overview, overview
from conserver.operations.parked import Waits
from conserver.operations.words import one_line
from conserver.telemetry.redact import printable, redact_text

if TYPE_CHECKING:
    from rich.console import Console

FINDINGS_SHOWN = 12

app = typer_app()


@app.command(epilog=examples("status --watch 2", "status --json"))
def status(
    config: ConfigFile = "",
    watch: Annotated[float, seconds("--watch", "Repeat that often.", most=86_400)] = 0,
    json: AsJson = False,
) -> int:
    """Show lists, hosts, workers, storages, and what is wrong.

    Below the tables stands what is wrong now, the worst first, and what to do.
    """
    output = Output(as_json=json)
    settings = load_settings(config)
    configured = configured_lists(settings)
    rate = Throughput()
    with redis_client(settings) as client:

        def look() -> None:
            now = overview(client, configured, rate)
            findings = attention(now, settings.parked_cap)
            output.value(asdict(now) | {"findings": [asdict(one) for one in findings]})
            if not output.as_json:
                _show(output.screen, now, findings, watched=bool(watch))

        watching.repeat(look, watch)
    return 0


def _show(screen: Console, found: Overview, findings: Sequence[Finding], *, watched: bool) -> None:
    lines = [*_lists(screen, found), "", _totals(found), "", *_away(screen, found)]
    if found.hosts:
        rows = [row for host in found.hosts for row in _rows(host)]
        lines += lines_of(screen, _WORKER_COLUMNS, rows)
    lines += _wrong(screen, findings)
    watching.write(screen, lines, found.at, watched=watched)
    if not found.hosts:
        note("no host is running")


def _away(screen: Console, found: Overview) -> list[str]:
    """The lines of the table of storages that are away; empty if none is."""
    rows = [
        (
            one.storage,
            Marked("open", "bad"),
            f"{one.open} of {one.workers}",
            age_text(found.at - one.since) if one.since else "",
            one.reason,
        )
        for one in found.breakers
        if one.open
    ]
    columns = ("storage", "breaker", "for workers", "since", "reason")
    return [*lines_of(screen, columns, rows), ""] if rows else []


def _wrong(screen: Console, findings: Sequence[Finding]) -> list[str]:
    """The lines about findings, the worst first, each with its advice; empty if there are none."""
    if not findings:
        return []
    lines = ["", styled(screen, "wrong now, and what to do", "bold")]
    for one in findings[:FINDINGS_SHOWN]:
        style: Style = "bad" if one.severity == "critical" else "warning"
        said = printable(redact_text(f"{one.subject} {one.text}"))
        lines += [styled(screen, said, style), f"    {one.advice}"]
    if len(findings) > FINDINGS_SHOWN:
        lines.append(f"and {len(findings) - FINDINGS_SHOWN} more: --json has all")
    return lines


_LIST_COLUMNS = ("list", "queued", "oldest", "returned", "suspects", "parked", "dead", "remarks")


def _lists(screen: Console, found: Overview) -> list[str]:
    rows = [
        (
            entry.name,
            _count(entry.queued),
            age_text(entry.oldest_age_s) if entry.oldest_age_s else "",
            _count(entry.returned),
            _count(entry.suspects, "warning"),
            _count(entry.parked, "warning"),
            _count(entry.dead, "bad"),
            _remarks(entry),
        )
        for entry in found.lists
    ]
    shown = len(_LIST_COLUMNS) if any(row[-1] for row in rows) else -1
    return lines_of(screen, _LIST_COLUMNS[:shown], [row[:shown] for row in rows])


def _totals(found: Overview) -> str:
    line = f"{found.in_flight} in flight now, {found.done} done by the present workers"
    if found.rate_per_s is not None:
        line += f", {found.rate_per_s:.3g} per second"
    if found.drained_in_s is not None:
        line += f", drained in {age_text(found.drained_in_s)}"
    return line


_WORKER_COLUMNS = (
    "host", "process", "pid", "state", "done", "failed", "held", "MiB", "restarts", "at work on",
)  # fmt: skip


def _rows(host: Host) -> list[tuple[object, ...]]:
    state: object = host.state
    if not host.beat_at:
        state = Marked("has not beaten yet", "warning")
    elif not host.beats:
        state = Marked(f"silent for {age_text(host.beat_age_s)}", "bad")
    elif not host.pid:
        state = "starting"  # The coordinator beats, but the supervisor has sent no status yet.
    up = f"up {age_text(max(time.time() - host.started_at, 0))}, version {host.version}"
    up += f", id {host.id}, heartbeat {age_text(host.beat_age_s)} ago"
    if not host.version:
        up = ""  # It has not beaten yet.
    supervisor = (host.name, "supervisor", host.pid or "", state, "", "", "", "", "", up)
    stays = host.state == "running"
    helpers = (("transcriber", host.transcribers), ("page reader", host.page_readers))
    return [
        supervisor,
        *(_worker(worker, stays=stays) for worker in host.workers),
        *(_helper(kind, one, stays=stays) for kind, found in helpers for one in found),
    ]


def _worker(worker: dict[str, Any], *, stays: bool) -> tuple[object, ...]:
    return (
        "",
        f"worker {worker.get('slot')}",
        worker.get("pid") or "",
        _state(worker, stays=stays),
        worker.get("done"),
        worker.get("failed"),
        worker.get("held"),
        round(worker.get("rss_bytes", 0) / (1 << 20)),
        worker.get("restarts"),
        _current(worker),
    )


def _helper(kind: str, one: dict[str, Any], *, stays: bool) -> tuple[object, ...]:
    """A transcriber or a page reader, which work for all workers of their host."""
    capacity = one.get("slots")
    work = f"{one['busy']} of at most {capacity} calls" if capacity else ""
    if one.get("waiting"):
        work += f", {one['waiting']} more wait"
    memory = one.get("memory_bytes")
    return (
        "",
        f"{kind} {one.get('slot')}",
        one.get("pid") or "",
        _state(one, stays=stays),
        "",
        "",
        "",
        round(memory / (1 << 20)) if memory else "",
        one.get("restarts"),
        work,
    )


def _state(child: dict[str, Any], *, stays: bool) -> object:
    state = str(child.get("state"))
    if state == "waiting" and not stays:
        return "ended"  # Its host stops, so no new one starts in its place.
    return Marked(state, "warning") if state == "waiting" else state


def _current(worker: dict[str, Any]) -> str:
    """The item that has run longest; for a worker that waits for its next start, the wait."""
    running = [item for item in worker.get("items", []) if item["phase"] != "queued"]
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


def _remarks(entry: ListState) -> object:
    remarks = []
    if entry.paused:
        remarks.append(_paused(entry))
    if not entry.served:
        remarks.append("nobody serves it")
    if entry.waits:
        remarks.append(_waits(entry.waits))
    text = "; ".join(remarks)
    return Marked(text, "warning") if text else ""


def _paused(entry: ListState) -> str:
    """`paused by ada for 3 h`."""
    who = f" by {entry.paused_by}" if entry.paused_by else ""
    since = entry.paused_since
    return f"paused{who}" + (f" for {age_text(time.time() - since)}" if since else "")


def _waits(parked: Waits) -> str:
    """A remark on parked items: `waits for storage pg and for retries, the next is due now`."""
    names = list(parked.storages)
    what = [f"for storage{'s' if len(names) > 1 else ''} {', '.join(names)}"] if names else []
    if parked.retries:
        what.append("for retries" + f" ({one_line(parked.error, 120)})" * bool(parked.error))
    if parked.later:
        what.append("for the time that they were submitted for")
    if parked.rates:
        what.append(f"for the rate of {', '.join(parked.rates)}")
    if parked.throttled:
        what.append(f"for the server of {', '.join(parked.throttled)}, which asked to wait")
    when = f"in {age_text(parked.due_in_s)}" if parked.due_in_s > 0 else "now"
    return f"waits {' and '.join(what)}, the next is due {when}"
