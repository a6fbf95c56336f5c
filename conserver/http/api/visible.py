"""What of the hosts a token may see that is restricted to lists: not what workers do for others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conserver.config.model import Config
from conserver.operations.hosts import Host
from conserver.operations.tokens import Token


def visible(hosts: Sequence[Host], token: Token, config: Config) -> list[Host]:
    """The hosts; their workers have those items alone whose chain serves no list but the token's.

    A worker tells the chain of an item, and not its list.
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
        )
        for host in hosts
    ]
