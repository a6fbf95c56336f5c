"""What one worker holds at most, whatever is pushed and however slow its storages are."""

from __future__ import annotations

import threading

from conserver.process.shared_status import ITEMS_MAX
from conserver.queue import calls
from conserver.worker.intake import HELD_BYTES_MAX
from conserver.worker.writers import BATCH_BYTES, BATCH_ITEMS
from tests.conftest import unique
from tests.guards.counting import figure
from tests.helpers import eventually
from tests.modules import memory
from tests.workshop import Workshop, document, storage

MIB = 1 << 20


def most_held(shop: Workshop, until_heartbeats: int) -> int:
    """The most items that Redis ever says are held, while the keeper looks around so often."""
    most = 0

    def looked() -> bool:
        nonlocal most
        most = max(most, shop.held)
        return shop.status.read().heartbeats >= until_heartbeats

    eventually(looked, 30)
    return most


def test_items_are_bounded(redis_url: str) -> None:
    name, opened = unique("hangs-"), threading.Event()
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    shop = Workshop(redis_url, storages=[storage(name)], tick_interval_ms=10)
    uuids = shop.supply(3 * ITEMS_MAX)
    with shop:
        # Small claims are saved up: a worker whose items are all with its storages is full when
        # fewer than 32 places are left.
        eventually(lambda: shop.held > ITEMS_MAX - 32, 30)
        most = most_held(shop, shop.status.read().heartbeats + 3)
        figure("items in a worker whose storage hangs", most, "at most")
        assert most <= ITEMS_MAX
        opened.set()
        eventually(lambda: len(shop.out()) == len(uuids), 30)
    assert max(len(call) for call in memory.shelf(name).saves) <= BATCH_ITEMS


def test_bytes_are_bounded(redis_url: str) -> None:
    name, opened = unique("hangs-"), threading.Event()
    memory.shelf(name).on_save.append(memory.waits_for(opened))
    shop = Workshop(redis_url, storages=[storage(name)], tick_interval_ms=10)
    bodies = [document(f"u{number}", text="x" * MIB) for number in range(110)]
    for number, body in enumerate(bodies):
        shop.queue.store(f"u{number}", body)
        shop.queue.push("in", f"u{number}")
    size = len(bodies[-1])
    with shop:
        eventually(lambda: (shop.held + 1) * size > HELD_BYTES_MAX, 30)
        most = most_held(shop, shop.status.read().heartbeats + 3)
        figure("documents in a worker whose storage hangs", most * size / MIB, "MiB at most")
        assert most * size <= HELD_BYTES_MAX + size
        opened.set()
        eventually(lambda: len(shop.out()) == len(bodies), 30)
    calls_bytes = [sum(len(one.body) for one in call) for call in memory.shelf(name).saves]
    assert max(calls_bytes) <= BATCH_BYTES


def test_one_call_takes_no_more_than_4_mib_or_one_document(redis_url: str) -> None:
    shop = Workshop(redis_url)
    for number in range(20):
        shop.queue.store(f"u{number}", document(f"u{number}", text="x" * MIB))
        shop.queue.push("in", f"u{number}")
    limits = calls.ClaimLimits(most=256)
    call = calls.claim(
        shop.boot.host, shop.boot.consumer, 1, True, [calls.Demand("in", 256, 3)], limits
    )
    claim = calls.read_claim(shop.queue.run(call))
    assert len(claim.items) == 4
    assert claim.more == 16
    shop.leave()
