"""Page readers: children that read pages of documents for workers (conserver.media.extraction).

All page readers accept connections on one socket, which outlives them. A page reader holds no item,
so no item is blamed for its death; only the page that it was reading is lost. Page readers are
always spawned, and run only if a link reads pages. At a shutdown they outlive the workers: they end
when the supervisor cuts the lifeline.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from conserver.config.settings import Settings
from conserver.media.speech.devices import gpus
from conserver.process.boot import Boot
from conserver.process.packets import listen
from conserver.supervisor.slots import ChildSlot


class PageReaderSlot(ChildSlot):
    """The slot of one page reader."""

    def __init__(self, number: int, listener: socket.socket, device: str) -> None:
        """
        Args:
            number: 1..R.
            listener: the socket of all page readers.
            device: the number of the reader's GPU; empty for the CPU.
        """
        super().__init__(number, service="reader", listener=listener)
        self.name = f"page reader {number}"
        self.device = device


class PageReaders:
    """The slots of all page readers of a host, and the address at which they accept."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self.address = f"conserver-{os.urandom(16).hex()}"
        listener = listen(self.address)
        devices = gpus(environ) or [""]
        self.slots = [
            PageReaderSlot(number, listener, devices[number % len(devices)])
            for number in range(1, settings.page_readers + 1)
        ]

    def equip(self, boot: Boot, slot: ChildSlot) -> None:
        """Add the readers' address to a worker's Boot, and what a page reader needs to its Boot."""
        if boot.role in ("worker", "reader"):
            boot.page_readers = (self.address, len(self.slots))
        if isinstance(slot, PageReaderSlot):
            boot.device = slot.device
            boot.memory_bytes = boot.settings.page_reader_memory

    def state(self) -> list[dict[str, Any]]:
        """The state of the page readers, for the status."""
        return [
            {
                "slot": slot.number,
                "pid": slot.child.pid if slot.child else 0,
                "state": slot.state_name,
                "restarts": max(slot.restarts, 0),
                "pages": slot.status.read().items_done,
            }
            for slot in self.slots
        ]

    def close(self) -> None:
        """Release the slots and the socket."""
        for slot in self.slots:
            slot.close()
