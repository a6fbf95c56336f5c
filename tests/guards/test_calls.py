"""How many functions of ours a worker calls per item: what an item costs is mostly calls."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import conserver
from conserver.queue import calls
from tests.guards.counting import figure
from tests.workers import SteppedWorker, link, tag

OURS = str(Path(conserver.__file__).parent)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count calls of the functions of conserver/ in this thread, by name."""
    seen: Counter[str] = Counter()

    def see(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            seen[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        yield seen
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(("links", "most"), [(0, 45), (1, 66), (2, 80)])
def test_the_functions_that_an_item_calls(redis_url: str, links: int, most: int) -> None:
    """With the line that the log gets of each. 10 calls are 1 us, 2 % of what an item costs."""
    with SteppedWorker(
        redis_url, links=[link(f"tag{n}", tag) for n in range(links)], log_level="WARNING"
    ) as worker:

        def batch() -> None:
            worker.supply(calls.BATCH_ITEMS)
            with counted() as seen:
                worker.run(*worker.claim())
                worker.flush()
            found.append(seen)

        found: list[Counter[str]] = []
        batch()  # imports, scripts
        batch()
        assert len(worker.out()) == 2 * calls.BATCH_ITEMS
    per_item = {name: n / calls.BATCH_ITEMS for name, n in found[-1].most_common()}
    figure(f"{links} links", sum(per_item.values()), f"calls per item: {per_item}")
    assert sum(per_item.values()) <= most
