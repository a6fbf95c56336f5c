"""The transcribers among the children: one per device, always spawned.

A transcriber belongs to no worker and holds no item, so its death blames nobody: workers send their
windows again to the one that replaces it (conserver.media.speech.client). Its slot keeps the
socket on which it listens, and with it the address, while one process follows another. It outlives
the workers: at a shutdown it ends when the supervisor cuts the lifeline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from selectors import EVENT_READ, BaseSelector
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import EXIT_INSANE
from conserver.media.speech.devices import cpu_environment, gpus
from conserver.process.boot import Boot
from conserver.process.packets import listen
from conserver.supervisor.death import Death, LeaveReason
from conserver.supervisor.slots import ChildSlot

THREADS_MAX = 64
"""Calls that one worker has under way at most for the transcribers' sake."""


class TranscriberSlot(ChildSlot):
    """The slot of one transcriber."""

    def __init__(self, number: int, device: str) -> None:
        """
        Args:
            number: 1..T.
            device: its GPU, for CUDA_VISIBLE_DEVICES; empty for the CPU.
        """
        self.address = f"conserver-{os.urandom(16).hex()}"
        super().__init__(number, service="transcriber", listener=listen(self.address))
        self.name = f"transcriber {number}"
        self.device = device
        self.safer = False
        self.asleep = False
        """Whether it ended because nobody had called for long: the next caller starts it."""

    def equip(self, boot: Boot, models: Sequence[Any]) -> None:
        """Give its next child what only a transcriber gets."""
        boot.device = self.device
        boot.safer = self.safer
        boot.environment = {} if self.device else cpu_environment(os.environ)
        boot.models = [asdict(replace(model, device_index=0)) for model in dict.fromkeys(models)]

    def note(self, death: Death, selector: BaseSelector) -> None:
        """Take from a death what the next child has to know. If it ended for want of calls, wait at
        the supervisor's selector for the next one instead of replacing it.
        """
        self.safer = self.safer or death.exit_code == EXIT_INSANE
        self.asleep = death.exit_code == 0 and death.leave_reason is LeaveReason.RETIRING
        listener = self.listener
        if not self.asleep or listener is None:
            return

        def wake() -> None:
            selector.unregister(listener)
            self.asleep = False

        selector.register(listener, EVENT_READ, (1, wake))  # see Supervisor._wait


def devices_of(settings: Settings, models: Sequence[Any], environ: Mapping[str, str]) -> list[str]:
    """The device of each transcriber that is to be started."""
    wanted = settings.transcribers
    on_gpus = any(model.device != "cpu" for model in models)
    found = gpus(environ) if on_gpus else []
    if wanted is None:
        return found or [""]
    return found[:wanted] if found else [""] * wanted


def for_workers(
    settings: Settings, config: Config, links: Mapping[str, Any], devices: Sequence[str]
) -> tuple[Settings, Config]:
    """What workers get: with enough threads to keep the transcribers at work.

    Chains that transcribe may have as many items at work as the transcribers take calls, unless
    they have a `concurrency` of their own; all other chains stay as they are.

    Args:
        links: the links that use a transcriber, by name, each with its model.
        devices: of the transcribers.
    """
    if not links or not devices:
        return settings, config
    # Here, because a supervisor without speech would load it for nothing.
    from conserver.media.speech.transcriber import service_options

    options = service_options(
        models=list(links.values()),
        gpu=bool(devices[0]),
        cores=len(os.sched_getaffinity(0)) // len(devices),
        rows=settings.transcriber_rows,
        slots=settings.max_concurrent_requests,
    )
    # One more than there are slots: it fetches and decodes while the others are transcribed.
    wanted = -(-options.slot_count * len(devices) // settings.workers) + 1
    before = settings.vcon_concurrency
    threads = max(before, min(wanted, THREADS_MAX))
    chains = {
        name: chain
        if links.keys() & set(chain.links)
        else chain.model_copy(update={"concurrency": min(chain.concurrency or before, before)})
        for name, chain in config.chains.items()
    }
    return (
        settings.model_copy(update={"vcon_concurrency": threads}),
        config.model_copy(update={"chains": chains}),
    )


def transcriber_state(slot: TranscriberSlot) -> dict[str, Any]:
    """What the status shows of a transcriber."""
    view = slot.status.read()
    return {
        "slot": slot.number,
        "pid": slot.child.pid if slot.child else 0,
        "state": "asleep" if slot.asleep else slot.state_name,
        "device": f"GPU {slot.device}" if slot.device else "CPU",
        "restarts": max(slot.restarts, 0),
        "windows": view.items_done,
        "slots": view.slots,
        "busy": view.busy,
        "waiting": view.waiting,
        "memory_bytes": view.rss_bytes,
    }
