"""Transcribers: children that hold a speech model for all workers, one per device.

A transcriber holds no item, so no item is blamed for its death: workers send their windows of audio
again to the transcriber that replaces it (conserver.media.speech.client). The slot keeps the
listening socket, so that the replacement has the same address. Transcribers are always spawned. At
a shutdown they outlive the workers: they end when the supervisor cuts the lifeline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from selectors import EVENT_READ, BaseSelector
from typing import Any

from conserver.config.model import Config
from conserver.config.settings import Settings
from conserver.errors import EXIT_INSANE
from conserver.media.speech.devices import cpu_environment, gpus
from conserver.media.speech.service_options import service_options
from conserver.process.boot import Boot
from conserver.process.packets import listen
from conserver.supervisor.death import Death, LeaveReason
from conserver.supervisor.slots import ChildSlot

THREADS_MAX = 64
"""A worker gets at most this many threads to keep the transcribers busy."""


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
        """Whether the transcriber ended because it got no calls. The next call starts it again."""

    def equip(self, boot: Boot, settings: Settings, models: Sequence[Any]) -> None:
        """Set the fields of the next child's Boot that only transcribers have."""
        boot.device = self.device
        boot.safer = self.safer
        boot.environment = {} if self.device else cpu_environment(os.environ)
        boot.options = service_options(
            models=[replace(model, device_index=0) for model in dict.fromkeys(models)],
            gpu=bool(self.device),
            cores=len(os.sched_getaffinity(0)) // max(1, len(boot.transcribers)),
            rows=settings.transcriber_rows,
            slots=settings.max_concurrent_requests,
            memory_bytes=settings.transcriber_memory,
            allow_cpu=settings.transcriber_cpu_fallback,
            idle_s=settings.transcriber_idle_s,
        )

    def note(self, death: Death, selector: BaseSelector) -> None:
        """Note what the next child must know about a death. If the transcriber ended because it got
        no calls, it is replaced only when `selector` reports the next connection.
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
    """The devices of the transcribers to start: a GPU each, or "" for the CPU."""
    wanted = settings.transcribers
    on_gpus = any(model.device != "cpu" for model in models)
    found = gpus(environ) if on_gpus else []
    if wanted is None:
        return found or [""]
    return found[:wanted] if found else [""] * wanted


def for_workers(
    settings: Settings, config: Config, links: Mapping[str, Any], devices: Sequence[str]
) -> tuple[Settings, Config]:
    """The settings and configuration for workers, with enough threads to keep transcribers busy.

    A chain that transcribes may run an item in each of these threads, unless it has a `concurrency`
    of its own. All other chains run at most as many items at once as before.

    Args:
        links: the links that use a transcriber: name -> speech model.
        devices: the devices of the transcribers.
    """
    if not links or not devices:
        return settings, config
    options = service_options(
        models=list(links.values()),
        gpu=bool(devices[0]),
        cores=len(os.sched_getaffinity(0)) // len(devices),
        rows=settings.transcriber_rows,
        slots=settings.max_concurrent_requests,
    )
    # One thread more than there are slots: it fetches and decodes audio while the others wait for
    # their transcripts.
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
    """The state of a transcriber, for the status."""
    view = slot.status.read()
    state = "asleep" if slot.asleep else slot.state_name
    return {
        "slot": slot.number,
        "pid": slot.child.pid if slot.child else 0,
        "state": "working" if state == "idle" and view.busy else state,
        "device": f"GPU {slot.device}" if slot.device else "CPU",
        "restarts": max(slot.restarts, 0),
        "windows": view.items_done,
        "slots": view.capacity,
        "busy": view.busy,
        "waiting": view.waiting,
        "memory_bytes": view.rss_bytes,
    }
