"""Plots of the curves, where matplotlib is installed: it is no dependency of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.contest import Curve, Row


def write(folder: Path, rows: Sequence[Row]) -> str:
    """One SVG file per curve, and one of all costs per item. Answers what to tell the caller."""
    try:
        import matplotlib as mpl  # type: ignore[import-not-found]
    except ImportError:
        return "no plots: matplotlib is not installed (pip install matplotlib)"
    mpl.use("svg")
    folder.mkdir(parents=True, exist_ok=True)
    curves = [curve for row in rows for curve in row.curves]
    for curve in curves:
        _draw(folder / f"{curve.name}.svg", curve)
    costs = {row.name: row for row in rows if row.results}
    if costs:
        _bars(folder / "costs.svg", costs)
    return f"{len(curves) + bool(costs)} plots in {folder}"


def _draw(path: Path, curve: Curve) -> None:
    figure, axes = _figure()
    for name, values in curve.lines.items():
        axes.plot(curve.at, values, marker="o", label=name)
    axes.set_xlabel(curve.across)
    axes.set_ylabel(curve.up)
    if max(curve.at) > 20 * min(curve.at):
        axes.set_xscale("log")
    values = [value for line in curve.lines.values() for value in line if value > 0]
    if max(values) > 20 * min(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def _bars(path: Path, costs: dict[str, Row]) -> None:
    """CPU per item of every contender, rows below one another, on a logarithmic scale."""
    bars = [
        (f"{name}: {result.name}", result.cpu_ms(), name)
        for name, row in costs.items()
        for result in row.results
    ][::-1]
    figure, axes = _figure(height=0.25 * len(bars) + 1)
    ours = [label.partition(": ")[2].startswith("conserver") for label, _, _ in bars]
    colours = ["tab:blue" if mine else "lightgray" for mine in ours]
    axes.barh([label for label, _, _ in bars], [value for _, value, _ in bars], color=colours)
    axes.set_xscale("log")
    axes.set_xlabel("CPU ms per item")
    figure.savefig(path)


def _figure(height: float = 4.5) -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, height), layout="constrained")
    return figure, axes
