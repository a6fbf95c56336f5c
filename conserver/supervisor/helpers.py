"""Helpers: the children that only some chains use, namely transcribers and page readers.

If a helper cannot start or dies, the daemon still runs; only the chains that use it wait. Helpers
are always spawned, because their libraries do not survive a fork.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.process.boot import Boot
from conserver.supervisor.page_readers import PageReaders
from conserver.supervisor.preload import Preload
from conserver.supervisor.slots import ChildSlot
from conserver.supervisor.transcribers import (
    TranscriberSlot,
    devices_of,
    for_workers,
    transcriber_state,
)


class Helpers:
    """The slots of all helpers of one host. A reload may change which helpers are needed."""

    def __init__(self, settings: Settings, preload: Preload, environ: Mapping[str, str]) -> None:
        self._preload = preload
        self._devices = devices_of(settings, self._models, environ)
        self.transcribers = [
            TranscriberSlot(number, device) for number, device in enumerate(self._devices, 1)
        ]
        self._readers = PageReaders(settings, environ)

    @property
    def slots(self) -> Sequence[ChildSlot]:
        """The slots of all helpers."""
        return [*self.transcribers, *self._readers.slots]

    @property
    def _models(self) -> list[Any]:
        """The speech models that links use."""
        return list(self._preload.speech_links.values())

    @property
    def needed(self) -> Sequence[ChildSlot]:
        """The slots of the helpers that the present links use, except sleeping transcribers."""
        wanted: list[ChildSlot] = []
        if self._models:
            wanted += [one for one in self.transcribers if not one.asleep]
        if self._preload.reads_pages:
            wanted += self._readers.slots
        return wanted

    @property
    def addresses(self) -> list[str]:
        """The addresses of the transcribers."""
        return [one.address for one in self.transcribers]

    def for_workers(self, settings: Settings, config: Config) -> tuple[Settings, Config]:
        """The settings and configuration for workers. See transcribers.for_workers."""
        return for_workers(settings, config, self._preload.speech_links, self._devices)

    def equip(self, boot: Boot, slot: ChildSlot) -> None:
        """Add to the Boot of the next child in a slot what a worker or a helper needs."""
        self._readers.equip(boot, slot)
        if isinstance(slot, TranscriberSlot):
            slot.equip(boot, boot.settings, self._models)

    def state(self) -> dict[str, Any]:
        """The state of the helpers in use, for the status."""
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
