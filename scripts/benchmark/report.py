"""What is shown: a block per row, a table of targets, a JSON file, plots."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmark.contest import Result, Row, Verdict


def block(row: Row) -> str:
    """One row in full: its contenders, its verdicts, its notes."""
    lines = [f"\n{row.title}"]
    if row.results:
        head = ("", "CPU ms", "servers ms", "items/s", "commands", "calls")
        lines.append("  {:34}{:>10}{:>12}{:>10}{:>10}{:>8}".format(*head))
        lines += [f"  {_figures(result)}" for result in row.results]
    lines += [f"  {_said(verdict)}" for verdict in row.verdicts]
    lines += [f"  {note}" for note in row.notes]
    return "\n".join(lines)


def _figures(result: Result) -> str:
    return (
        f"{result.name:34}{result.cpu_ms():10.4f}{result.servers_ms:12.4f}{result.per_s:10.0f}"
        f"{result.commands:10.2f}{result.calls:8.3f}"
    )


def _said(verdict: Verdict) -> str:
    mark = {True: "met ", False: "MISS", None: "    "}[verdict.met]
    return f"{mark} {verdict.what}: {_value(verdict)}{_target(verdict)}"


def _value(verdict: Verdict) -> str:
    return f"{verdict.value:.3g} {verdict.unit}".strip()


def _target(verdict: Verdict) -> str:
    if verdict.target is None:
        return ""
    return f" (target {'>=' if verdict.least else '<='} {verdict.target:g} {verdict.unit})".rstrip()


def table(rows: Sequence[Row]) -> str:
    """All verdicts that have a target, as a table in Markdown."""
    lines = ["", "| | measured | target | |", "|---|---|---|---|"]
    for row in rows:
        for verdict in row.verdicts:
            if verdict.target is not None:
                word = "met" if verdict.met else "missed"
                target = _target(verdict)[len(" (target ") : -1]
                what = f"{row.title}: {verdict.what}"
                lines.append(f"| {what} | {_value(verdict)} | {target} | {word} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Where it was measured."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "redis": _said_by("redis-server", "--version"),
    }


def _said_by(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_json(path: Path, rows: Sequence[Row], options: dict[str, Any]) -> None:
    """Everything measured, for whoever compares runs."""
    told = {"machine": machine(), "options": options, "rows": [row.plain() for row in rows]}
    path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
