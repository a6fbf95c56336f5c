"""Helpers: children that only some chains use, which are transcribers and page readers.

The daemon starts, and goes on, without them; only the chains that use them wait. Their libraries
survive no fork: they are always spawned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.process.boot import Boot, Role
from conserver.supervisor.page_readers import PageReaders
from conserver.supervisor.preload import Preload
from conserver.supervisor.slots import ChildSlot
from conserver.supervisor.transcribers import (
    TranscriberSlot,
    devices_of,
    for_workers,
    transcriber_state,
)

HELPERS: frozenset[Role] = frozenset({"transcriber", "reader"})


class Helpers:
    """The slots of all helpers of one host. Which of them are needed may change with a reload."""

    def __init__(self, settings: Settings, preload: Preload, environ: Mapping[str, str]) -> None:
        self._preload = preload
        self._devices = devices_of(settings, self._models, environ)
        self.transcribers = [
            TranscriberSlot(number, device) for number, device in enumerate(self._devices, 1)
        ]
        self._readers = PageReaders(settings, environ)

    @property
    def slots(self) -> Sequence[ChildSlot]:
        """All of them."""
        return [*self.transcribers, *self._readers.slots]

    @property
    def _models(self) -> list[Any]:
        """The models that links want a transcriber to hold."""
        return list(self._preload.speech_links.values())

    @property
    def needed(self) -> Sequence[ChildSlot]:
        """Those that the present links use."""
        wanted: list[ChildSlot] = []
        if self._models:
            wanted += [one for one in self.transcribers if not one.asleep]
        if self._preload.reads_pages:
            wanted += self._readers.slots
        return wanted

    @property
    def addresses(self) -> list[str]:
        """Of the transcribers."""
        return [one.address for one in self.transcribers]

    def for_workers(self, settings: Settings, config: Config) -> tuple[Settings, Config]:
        """What workers get, so that they keep the transcribers at work."""
        return for_workers(settings, config, self._preload.speech_links, self._devices)

    def equip(self, boot: Boot, slot: ChildSlot) -> None:
        """Give the next child in a slot what it needs of the helpers, or as one of them."""
        self._readers.equip(boot, slot)
        if isinstance(slot, TranscriberSlot):
            slot.equip(boot, self._models)

    def state(self) -> dict[str, Any]:
        """What the status shows of those that are in use."""
        shown: dict[str, Any] = {}
        if self._models:
            shown["transcribers"] = [transcriber_state(slot) for slot in self.transcribers]
        if self._preload.reads_pages:
            shown["page_readers"] = self._readers.state()
        return shown

    def close(self) -> None:
        """Release the slots."""
        for slot in self.transcribers:
            slot.close()
        self._readers.close()
