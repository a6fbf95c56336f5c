"""The status of this host, which each heartbeat writes for `conserver status` and the API.

The fields in the host's hash in Redis:

name version lease_s    hostname; Conserver's version; the host's lease
pid coordinator_pid     pid of the supervisor (0 before its first state message); of the coordinator
state                   running or draining
started_at              when the supervisor started, in Unix seconds; missing before its first state
                        message
supervisor              JSON: the supervisor's description of itself
lists, egress           JSON: the ingress and egress lists, in the order of the configuration
storages                JSON: the storages that chains write to, sorted
away                    JSON: storage that is away for at least one worker -> since when (Unix
                        seconds)
away_reasons            JSON: storage that is away -> the error of the latest call
lost                    JSON: {at, how, known: place -> number of items at the last count}: the
                        loss of most items in a day (data_loss.py); missing if this host saw none
chains, links           JSON: what workers have counted per chain and link; see chain_counts.py
workers                 JSON: an array of {slot, pid, consumer, state, restarts, backoff_s,
                        started_at, ended (how the slot's earlier process ended), ended_at, idle,
                        done, failed, rss_bytes, away (storages whose circuit breaker is open), held
                        (number of items), busy (number of items in a link), items: [{uuid, chain,
                        link, phase, since_s}], at most ITEMS_SHOWN}
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

import conserver
from conserver.coordinator import chain_counts
from conserver.process.shared_status import Phase

if TYPE_CHECKING:
    from conserver.config.model import Config
    from conserver.coordinator.idle_workers import IdleWorkers
    from conserver.process.messages import Message
    from conserver.process.shared_status import SharedStatus, StatusItem

ITEMS_SHOWN = 8


class HostStatus:
    """Combines the supervisor's state message, the workers' shared statuses and IdleWorkers.

    supervisor: its description of itself; empty before its first state message.
    """

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
        self.supervisor: Message = {}
        self._workers: list[Message] = []
        self._away: dict[str, float] = {}
        self._fixed: dict[str, str | bytes | int] = {
            "name": socket.gethostname(),
            "version": conserver.__version__,
            "coordinator_pid": os.getpid(),
            "lease_s": f"{lease_s:g}",
            "lists": orjson.dumps(list(config.ingress)),
            "egress": orjson.dumps(list(config.egress)),
            "storages": orjson.dumps(self._storages),
        }

    def read_state(self, message: Message) -> bool:
        """Take in the supervisor's state message.

        Returns:
            Whether the next heartbeat is due at once: a process has started, ended or changed its
            state, or the supervisor has reloaded.
        """
        before = self._urgent()
        self.supervisor = message.get("supervisor", {})
        self._workers = message.get("workers", [])
        return self._urgent() != before

    def _urgent(self) -> tuple[Any, ...]:
        workers = [
            # A worker changes between idle and working all the time: that is not urgent.
            (one.get("pid"), "" if one.get("state") in ("idle", "working") else one.get("state"))
            for one in self._workers
        ]
        return *(self.supervisor.get(key) for key in ("pid", "state", "reload")), workers

    def fields(self) -> dict[str, str | bytes | int]:
        """The fields as they are now."""
        workers = self.workers()
        reasons = self._away_reasons()
        counts = chain_counts.read(self._statuses)
        self._note_away(set(reasons))
        started_at = self.supervisor.get("started_at")
        # While it is unknown, the field keeps the value that the earlier coordinator wrote.
        started = {} if started_at is None else {"started_at": started_at}
        return {
            **self._fixed,
            **started,
            "pid": self.supervisor.get("pid", 0),
            "state": self.supervisor.get("state", "running"),
            "supervisor": orjson.dumps(self.supervisor),
            "workers": orjson.dumps(workers),
            "away": orjson.dumps(self._away),
            "away_reasons": orjson.dumps(reasons),
            "chains": orjson.dumps(counts.chains),
            "links": orjson.dumps(counts.links),
        }

    def _away_reasons(self) -> dict[str, str]:
        """Storage that is away for a worker -> the error of the latest call."""
        found: dict[str, str] = {}
        for one in self._workers:
            away = self._statuses[one["slot"] - 1].read().away
            found |= {self._storages[place]: reason for place, reason in away.items()}
        return found

    def _note_away(self, names: set[str]) -> None:
        """Store since when each of these storages is away; forget all others."""
        now_s = round(time.time(), 3)
        self._away = {name: self._away.get(name, now_s) for name in sorted(names)}

    @property
    def held(self) -> int:
        """How many items the workers hold."""
        return sum(len(self._statuses[one["slot"] - 1].read().items) for one in self._workers)

    def workers(self) -> list[dict[str, Any]]:
        """The workers as they are now."""
        now_s = time.monotonic()
        return [self._worker(one, now_s) for one in self._workers]

    def _worker(self, state: Message, now_s: float) -> dict[str, Any]:
        slot = state["slot"]
        view = self._statuses[slot - 1].read()
        return {
            **state,
            "idle": slot in self._idle_workers.idle,
            "done": view.items_done,
            "failed": view.items_failed,
            "rss_bytes": view.rss_bytes,
            "away": [self._storages[place] for place in view.away],
            "held": len(view.items),
            "busy": sum(item.phase is Phase.RUNNING for item in view.items),
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
