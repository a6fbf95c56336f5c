"""The page readers among the children: they open documents (conserver.media.extraction).

All of them accept from one socket, which outlives each of them. A reader holds no item, so its
death blames nobody: it costs the page that it read. It is always spawned, and started only if a
link reads pages. It outlives the workers: at a shutdown it ends when the supervisor cuts the
lifeline.
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
            listener: the socket of all readers.
            device: the number of its GPU; empty for the CPU.
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
        """Give a worker the address, and a reader its device."""
        if boot.role == "worker":
            boot.page_readers = (self.address, len(self.slots))
        elif isinstance(slot, PageReaderSlot):
            boot.device = slot.device

    def state(self) -> list[dict[str, Any]]:
        """What the status shows of them."""
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
