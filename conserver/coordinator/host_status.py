"""What a beat tells about this host: the fields that `conserver status` and the API show.

name version lease_s    the machine, our version, the lease that the host keeps
pid coordinator_pid         of the supervisor (0 until it has told) and of the coordinator
state                   running or draining
started_at              when the supervisor started, in seconds since the epoch, once it has told
supervisor              JSON: what the supervisor told of itself
lists                   JSON: the lists that are served, in order
storages                JSON: the storages that chains write to, sorted
workers                 JSON: an array of {slot, pid, consumer, state, restarts, backoff_s,
                        started_at, idle, done, failed, rss_bytes, away: [storages whose breaker
                        is open], held, items: [{uuid, chain, link, phase, since_s}]}, with at
                        most ITEMS_SHOWN items each
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

import conserver

if TYPE_CHECKING:
    from conserver.config.model import Config
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.process.messages import Message
    from conserver.process.shared_status import SharedStatus, StatusItem

ITEMS_SHOWN = 8


class HostStatus:
    """Gathers the fields from the supervisor's word, the pages, and who is idle."""

    def __init__(
        self,
        config: Config,
        lease_s: float,
        statuses: Sequence[SharedStatus],
        idle_workers: IdleWorkers,
    ) -> None:
        self._statuses = statuses
        self._storages = sorted(config.used_storages)
        self._idle_workers = idle_workers
        self._supervisor: Message = {}
        self._workers: list[Message] = []
        self._fixed: dict[str, str | bytes | int] = {
            "name": socket.gethostname(),
            "version": conserver.__version__,
            "coordinator_pid": os.getpid(),
            "lease_s": f"{lease_s:g}",
            "lists": orjson.dumps(list(config.ingress)),
            "storages": orjson.dumps(self._storages),
        }

    def hear(self, message: Message) -> bool:
        """The supervisor's state message. Whether others should know of it before the next beat:
        somebody has come, gone or changed its state.
        """
        before = self._who()
        self._supervisor = message.get("supervisor", {})
        self._workers = message.get("workers", [])
        return self._who() != before

    def _who(self) -> tuple[Any, ...]:
        workers = [
            # Those at work are idle and busy by turns, which is no news.
            (told.get("pid"), "" if told.get("state") in ("idle", "working") else told.get("state"))
            for told in self._workers
        ]
        return self._supervisor.get("pid"), self._supervisor.get("state"), workers

    def fields(self) -> dict[str, str | bytes | int]:
        """The fields as they are now."""
        now_s = time.monotonic()
        workers = [self._worker(told, now_s) for told in self._workers]
        began_at = self._supervisor.get("started_at")
        # A coordinator that does not know yet leaves what the one before it has told.
        began = {} if began_at is None else {"started_at": began_at}
        return {
            **self._fixed,
            **began,
            "pid": self._supervisor.get("pid", 0),
            "state": self._supervisor.get("state", "running"),
            "supervisor": orjson.dumps(self._supervisor),
            "workers": orjson.dumps(workers),
        }

    def _worker(self, told: Message, now_s: float) -> dict[str, Any]:
        slot = told["slot"]
        view = self._statuses[slot - 1].read()
        return {
            **told,
            "idle": slot in self._idle_workers.idle,
            "done": view.items_done,
            "failed": view.items_failed,
            "rss_bytes": view.rss_bytes,
            "away": [name for place, name in enumerate(self._storages) if view.away >> place & 1],
            "held": len(view.items),
            "items": [_item(item, now_s) for item in view.items[:ITEMS_SHOWN]],
        }


def _item(item: StatusItem, now_s: float) -> dict[str, Any]:
    return {
        "uuid": item.uuid,
        "chain": item.chain,
        "link": item.link,
        "phase": item.phase.name.lower(),
        "since_s": round(now_s - item.phase_since_s, 1),
    }
