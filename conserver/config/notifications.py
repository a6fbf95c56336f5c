"""The built-in chain that sends the ends of jobs to their callbacks.

Every host serves the list conserver:notifications with this chain, whatever its configuration file
says, because a job with a callback may be submitted anywhere. The chain has one link, no storages
and no egress lists. It runs in threads of its own (worker/notifiers.py), so that a slow receiver
does not delay other items.
"""

from __future__ import annotations

from conserver.config.model import ChainConfig, Config, LinkConfig
from conserver.config.settings import Settings

LIST = "conserver:notifications"
CHAIN = LINK = "conserver:notify"

CONCURRENCY = 8
"""How many notifications one worker sends at once."""

GIVE_UP_S = 604_800.0
"""Long, because a receiver may ask for long waits. The link itself limits the number of tries."""


def with_notifications(config: Config, settings: Settings) -> Config:
    """The configuration with this chain added, unless the settings forbid callbacks."""
    if not settings.callbacks:
        return config
    link = LinkConfig(
        module="links.notify",
        options={
            "timeout_s": settings.upload_timeout_s,
            "tries": settings.callback_tries,
            "backoff_s": settings.callback_backoff_s,
            "allow_private_addresses": settings.callback_private_addresses,
            "secret": settings.webhook_secret,
            "secret_file": settings.webhook_secret_file,
        },
    )
    chain = ChainConfig(
        links=[LINK], retries=0, concurrency=CONCURRENCY, give_up_s=GIVE_UP_S
    ).model_copy(update={"ingress_lists": [LIST]})
    return config.model_copy(
        update={
            "links": {**config.links, LINK: link},
            "chains": {**config.chains, CHAIN: chain},
        }
    )
