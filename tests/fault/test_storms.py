"""Small storms: what scripts/storm does at full size, with bounds on what they may cost.

Speed is no matter here. Memory is: that of every process, and of Redis for each item.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stormrun import storms

pytestmark = pytest.mark.slow

WORKER_MIB_MAX = 80
OTHERS_MIB_MAX = 60
MEAN_SCRIPT_MS_MAX = 20.0  # a few at most on a machine that has nothing else to do


def weathered(figures: dict[str, Any], worker_mib: float = WORKER_MIB_MAX) -> None:
    """Everything ended as it must, and nobody grew with it."""
    assert figures["good"], figures
    for name, mib in figures["peak_mib"].items():
        assert mib < (worker_mib if name.startswith("worker") else OTHERS_MIB_MAX), figures
    assert figures["scripts"]["mean_ms"] < MEAN_SCRIPT_MS_MAX, figures


def test_many_wait_on_one_list(tmp_path: Path) -> None:
    figures = storms.waiting(tmp_path, 10_000)
    weathered(figures)
    # Some 350 bytes of document, its uuid on a list; then what is known of it beside.
    assert figures["redis_bytes_per_item"]["waiting"] < 800
    assert figures["redis_bytes_per_item"]["settled"] < 1400


def test_many_parked_items_are_due_at_once(tmp_path: Path) -> None:
    weathered(storms.parked(tmp_path, 3000))


def test_many_dead_letters_are_sent_to_work_again(tmp_path: Path) -> None:
    weathered(storms.dead(tmp_path, 3000))


def test_two_hundred_lists(tmp_path: Path) -> None:
    weathered(storms.lists(tmp_path, 2000))


def test_a_storage_is_away_until_the_cap_is_reached(tmp_path: Path) -> None:
    figures = storms.away(tmp_path, 6000)
    weathered(figures)
    lengths = figures["peak_lengths"]
    # Beyond the cap goes only what two workers had claimed when it was reached.
    assert figures["cap"] <= lengths["conserver:parked:in"] <= figures["cap"] + 2 * 256
    assert lengths["in"] >= 6000 - figures["cap"] - 2 * 256 * 2


def test_documents_as_large_as_an_answer_carries(tmp_path: Path) -> None:
    # 64 MiB of documents in each worker at most, and as much again that links and answers hold.
    weathered(storms.large(tmp_path, 200), worker_mib=250)


def test_no_script_keeps_redis_busy_for_long(tmp_path: Path) -> None:
    # Under 5 ms on a machine of two slow cores.
    figures = storms.calls(tmp_path, 6)
    assert figures["good"], (figures["too_long"], figures["ms"])
