"""How often a worker parses and dumps a document: once each, and no dump if nothing has changed.

Python's profiler hook sees each call of orjson in each thread, and the file of the caller.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest

from conserver.vcon.document import Vcon
from tests.conftest import unique
from tests.guards.counting import figure
from tests.helpers import eventually
from tests.workers import RunningWorker, document, link, nothing, storage, tag

COUNT = 40
NAMES = {orjson.loads: "loads", orjson.dumps: "dumps"}


class Orjson:
    """Counts calls of orjson by (function, file of the caller)."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def see(self, frame: FrameType, event: str, argument: Any) -> None:
        """The profiler's hook."""
        if event == "c_call" and argument in NAMES:
            with self._lock:
                self.calls[NAMES[argument], Path(frame.f_code.co_filename).name] += 1

    def of(self, what: str) -> float:
        """Calls per item, without those for logging."""
        ours = [n for (name, file), n in self.calls.items() if name == what and file != "log.py"]
        return sum(ours) / COUNT


@contextmanager
def watched() -> Iterator[Orjson]:
    """Count in all threads that the block starts."""
    seen = Orjson()
    threading.setprofile(seen.see)
    try:
        yield seen
    finally:
        threading.setprofile(None)


def edit(vcon: Vcon, _context: Any) -> Vcon:
    """A link whose change is found by comparing dumps."""
    vcon.data["subject"] = "edited"
    return vcon


def look(vcon: Vcon, _context: Any) -> Vcon:
    """A link that reads `data`, through which it could have changed something."""
    assert vcon.data["uuid"]
    return vcon


@pytest.mark.parametrize(
    ("links", "loads", "dumps"),
    [
        ([("a", nothing)], 1, 0),
        ([("a", tag)], 1, 1),
        ([("a", tag), ("b", nothing), ("c", nothing)], 1, 1),
        # To compare, the claimed document is parsed once more, and both are dumped.
        ([("a", look)], 2, 2),
        ([("a", edit)], 2, 2),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("stores", [0, 3])
def test_parses_and_dumps_of_an_item(
    redis_url: str, links: list[Any], loads: int, dumps: int, whole: bool, stores: int
) -> None:
    assert sys.getprofile() is None, "a debugger or a coverage tool uses the hook"
    with watched() as seen:
        worker = RunningWorker(
            redis_url,
            links=[link(name, run) for name, run in links],
            storages=[storage(unique("shelf-")) for _ in range(stores)],
        )
        if whole:
            worker.queue.push("in", *(document(f"u{number}") for number in range(COUNT)))
        else:
            worker.supply(COUNT)
        with worker:
            eventually(lambda: len(worker.out()) == COUNT)
            eventually(lambda: worker.inflight == 0)
    figure(f"{len(links)} links, {stores} storages", seen.of("loads"), "parses per item")
    # A write before the storages has the item's progress too, which is one more dump.
    states = 1 if stores and (whole or dumps) else 0
    assert seen.of("loads") <= loads + 0.1, seen.calls
    assert seen.of("dumps") <= dumps + states + 0.1, seen.calls
