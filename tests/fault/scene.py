"""What fault tests share: the configuration, producers that keep pushing, and how it has to end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from chaosrun.town import Town

from tests.daemon import Daemon, Event, elements, push, vcon
from tests.helpers import eventually

LEFT_BEHIND = (
    "conserver:inflight:*",
    "conserver:returned:*",
    "conserver:suspects:*",
    "conserver:parked:*",
)
PUSH_EVERY_S = 0.08


class Scene:
    """One town, one chain: `in` through the links to every storage and to `out`."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.runs_file = town.folder / "runs"

    def config(self, links: Iterable[str] = ("mark",), **chain: Any) -> dict[str, Any]:
        """Links: mark leaves a mark, trouble does what a vCon's subject says, tag tags."""
        storages = self.town.storages()
        marks = {"module": "tests.modules.marks", "options": {"runs_file": str(self.runs_file)}}
        trouble = {
            "module": "tests.modules.trouble",
            "options": {"redis_url": self.town.redis.url},
        }
        tag = {"module": "links.tag", "options": {"tags": ["seen"]}}
        return {
            "links": {"mark": marks, "trouble": trouble, "tag": tag},
            "storages": storages,
            "chains": {
                "main": {
                    "links": list(links),
                    "storages": list(storages),
                    "ingress_lists": ["in"],
                    "egress_lists": ["out"],
                    "backoff_s": 0.05,
                    "backoff_max_s": 0.2,
                    **chain,
                }
            },
        }

    def start(
        self, config: dict[str, Any] | None = None, *, workers: int = 1, **environment: str
    ) -> Daemon:
        """Start one more host and wait until its children are ready."""
        how: dict[str, Any] = {"method": "fork", "workers": workers, **environment}
        return self.town.host(config or self.config(), **how).daemon.start()

    def runs(self, uuid: str) -> int:
        """How often the link of a vCon was begun."""
        if not self.runs_file.exists():
            return 0
        return sum(line.startswith(uuid) for line in self.runs_file.read_text().splitlines())

    def stored(self, name: str, uuids: Iterable[str]) -> int:
        """How many of these vCons a storage holds."""
        return self.town.places[name].holds(list(uuids))

    def holds(self, name: str, uuids: Collection[str]) -> Callable[[], bool]:
        """Whether a storage holds all of these vCons: to be waited for."""
        return lambda: self.stored(name, uuids) == len(uuids)


class Producer:
    """Pushes vCons one after the other from a thread, until told to stop."""

    def __init__(self, town: Town, name: str = "in", **members: Any) -> None:
        self.uuids: list[str] = []
        self._town = town
        self._list = name
        self._members = members
        self._enough = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[Producer]:
        """Push while the body runs, all that was pushed is in `uuids` afterwards."""
        thread = threading.Thread(target=self._work, name="producer")
        thread.start()
        try:
            yield self
        finally:
            self._enough.set()
            thread.join()

    def _work(self) -> None:
        with self._town.client() as client:
            while not self._enough.wait(PUSH_EVERY_S):
                self.uuids += push(client, self._list, [vcon(**self._members)])


def arrived(client: redis.Redis, uuids: Iterable[str], name: str = "out") -> bool:
    """Whether exactly these uuids are on the egress list, each as often as here."""
    wanted = list(uuids)
    # The list is asked for its length first, because it is asked many times.
    return client.llen(name) == len(wanted) and sorted(elements(client, name)) == sorted(wanted)


def nothing_left(client: redis.Redis) -> bool:
    """Whether no item is anywhere on its way."""
    return not any(client.keys(pattern) for pattern in LEFT_BEHIND)


def deaths(*daemons: Daemon) -> list[Event]:
    """What these hosts have logged of children that died or stalled, and of items taken away."""
    names = ("child_died", "child_stalled", "host_reaped", "consumer_forsaken", "item_lost")
    return [event for daemon in daemons for name in names for event in daemon.events(name)]


def hold(seconds: float) -> None:
    """Let a fault last: time itself is what is tested."""
    pause = threading.Event()
    eventually(lambda: pause.wait(seconds) or True, seconds + 5)
