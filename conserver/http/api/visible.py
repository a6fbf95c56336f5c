"""Hides items of other lists from a token that is restricted to lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conserver.config.model import Config
from conserver.operations.hosts import Host
from conserver.operations.tokens import Token


def visible(hosts: Sequence[Host], token: Token, config: Config) -> list[Host]:
    """The hosts, without the items that the token may not see. For a token that is restricted to
    lists, `lost` has no numbers, because they count the items of all lists.

    A worker reports the chain of an item, not its list. So an item is kept only if the token may
    use all lists of the chain.
    """
    if not token.lists:
        return list(hosts)
    hidden = {chain for name, chain in config.ingress.items() if not token.may_use(name)}
    chains = set(config.ingress.values()) - hidden
    return [
        replace(
            host,
            workers=[
                {**one, "items": [item for item in one["items"] if item.get("chain") in chains]}
                if "items" in one
                else one
                for one in host.workers
            ],
            lost=host.lost and {**host.lost, "known": {}},
        )
        for host in hosts
    ]
