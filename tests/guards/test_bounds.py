"""Backpressure: what one worker holds at most, with a storage that hangs."""

from __future__ import annotations

import threading

from conserver.process.shared_status import ITEMS_MAX
from conserver.queue import calls
from conserver.worker.held_items import HELD_BYTES_MAX
from conserver.worker.writers import SAVE_BYTES_MAX, SAVE_ITEMS_MAX
from tests.conftest import unique
from tests.guards.counting import figure
from tests.helpers import eventually
from tests.modules import memory
from tests.workers import RunningWorker, document, storage

MIB = 1 << 20


def most_held(worker: RunningWorker, until_heartbeats: int) -> int:
    """The most items that the worker ever holds until it has sent so many heartbeats."""
    most = 0

    def beaten() -> bool:
        nonlocal most
        most = max(most, worker.inflight)
        return worker.status.read().heartbeats >= until_heartbeats

    eventually(beaten, 60)
    return most


def test_items_are_bounded(redis_url: str) -> None:
    name, opened = unique("hangs-"), threading.Event()
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    worker = RunningWorker(redis_url, storages=[storage(name)], tick_interval_ms=10)
    uuids = worker.supply(3 * ITEMS_MAX)
    with worker:
        # A worker whose items are all with its storages does not claim for fewer than 32 slots.
        eventually(lambda: worker.inflight > ITEMS_MAX - 32, 60)
        most = most_held(worker, worker.status.read().heartbeats + 3)
        figure("items in a worker whose storage hangs", most, "at most")
        assert most <= ITEMS_MAX
        opened.set()
        eventually(lambda: len(worker.out()) == len(uuids), 60)
    assert max(len(call) for call in memory.shelf(name).saves) <= SAVE_ITEMS_MAX


def test_bytes_are_bounded(redis_url: str) -> None:
    name, opened = unique("hangs-"), threading.Event()
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    worker = RunningWorker(redis_url, storages=[storage(name)], tick_interval_ms=10)
    bodies = [document(f"u{number}", text="x" * MIB) for number in range(110)]
    for number, body in enumerate(bodies):
        worker.queue.store(f"u{number}", body)
        worker.queue.push("in", f"u{number}")
    size = len(bodies[-1])
    with worker:
        eventually(lambda: (worker.inflight + 1) * size > HELD_BYTES_MAX, 60)
        most = most_held(worker, worker.status.read().heartbeats + 3)
        figure("documents in a worker whose storage hangs", most * size / MIB, "MiB at most")
        assert most * size <= HELD_BYTES_MAX + size
        opened.set()
        eventually(lambda: len(worker.out()) == len(bodies), 60)
    calls_bytes = [sum(len(one.body) for one in call) for call in memory.shelf(name).saves]
    assert max(calls_bytes) <= SAVE_BYTES_MAX


def test_one_call_takes_no_more_than_4_mib_or_one_document(redis_url: str) -> None:
    worker = RunningWorker(redis_url)
    for number in range(20):
        worker.queue.store(f"u{number}", document(f"u{number}", text="x" * MIB))
        worker.queue.push("in", f"u{number}")
    limits = calls.ClaimLimits(most=256)
    call = calls.claim(
        worker.boot.host, worker.boot.consumer, 1, True, [calls.Demand("in", 256)], limits
    )
    claim = calls.read_claim(worker.queue.run(call))
    assert len(claim.items) == 4
    assert claim.more == 16
    worker.close()
