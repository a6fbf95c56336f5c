"""Routes: which chain serves which ingress list, and in what order lists are claimed from.

Routes are built once, from the configuration and its plugins, because a reload replaces the worker.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from conserver.config.model import Config
from conserver.plugins.loader import Plugins
from conserver.queue import keys
from conserver.worker.item import Route
from conserver.worker.rates import Rate, rate_of


class Routes:
    """all: the enabled chains, in the order of the configuration. notifications: the built-in chain
    that delivers notifications; None if it is not configured.
    """

    def __init__(self, config: Config, plugins: Plugins, max_document_bytes: int) -> None:
        self._by_list: dict[str, Route] = {}
        self.all: list[Route] = []
        for name, chain in config.enabled_chains.items():
            route = Route(
                name=name,
                config=chain,
                links=tuple(plugins.links[link] for link in chain.links),
                names=tuple(chain.links),
                storages=tuple(dict.fromkeys(chain.storages)),
                soft_s=chain.soft_timeout_s,
                hard_s=chain.hard_timeout_s or 0.0,
                max_document_bytes=max_document_bytes,
                rate=rate_of("chain", name, chain.rate, chain.rate_burst),
                rates=_rates(config, chain.links),
            )
            self.all.append(route)
            for list_name in chain.ingress_lists:
                self._by_list[list_name] = route
        self.notifications = self._by_list.get(keys.NOTIFICATIONS)
        self._weights = {
            name: route.config.weight * route.config.list_weights.get(name, 1)
            for name, route in self._by_list.items()
        }
        chains = {route.config.weight for route in self.all}
        self._weighted = len(chains) > 1 or any(route.config.list_weights for route in self.all)
        self._strict = {
            chain.name: [name for name, route in self._by_list.items() if route is chain]
            for chain in self.all
            if not chain.config.list_weights
        }

    @property
    def lists(self) -> list[str]:
        """Every ingress list, in the order of the configuration."""
        return list(self._by_list)

    def of(self, list_name: str) -> Route:
        """The chain that serves a list."""
        return self._by_list[list_name]

    def in_order(self) -> Iterator[tuple[str, Route]]:
        """The lists and their chains, in the order in which the next claim takes from the lists.

        This is the order of the configuration. If the chains' weights differ, or a chain has
        list_weights, the order is drawn at random, by weight; the lists of a chain without
        list_weights then keep their order among themselves.
        """
        if not self._weighted:
            return iter(self._by_list.items())
        # Efraimidis and Spirakis (2006): sorting by u^(1/w), u uniform in [0, 1), draws without
        # replacement in proportion to the weights w.
        keyed = [
            (random.random() ** (1.0 / self._weights[name]), name, route)
            for name, route in self._by_list.items()
        ]
        keyed.sort(key=lambda entry: entry[0], reverse=True)
        strict = {chain: iter(names) for chain, names in self._strict.items()}
        return iter(
            [
                (next(strict[route.name]) if route.name in strict else name, route)
                for _, name, route in keyed
            ]
        )


def _rates(config: Config, links: Sequence[str]) -> dict[str, Rate]:
    """Link -> rate, for the links of a chain that have a rate."""
    found = {}
    for name in links:
        link = config.links[name]
        rate = rate_of("link", name, link.rate, link.rate_burst)
        if rate is not None:
            found[name] = rate
    return found
