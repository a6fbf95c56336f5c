"""Who waits for a job misses no change of it, whenever Redis hears of the subscription."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from conserver.http.api.subscriptions import Subscriptions
from conserver.queue import clients, keys
from tests.helpers import LONG_S, TcpProxy

DELAY_S = 0.2
"""How long the subscription is on its way: Redis answers other connections before it."""


def test_a_listener_reads_again_once_redis_has_subscribed_it(redis_url: str) -> None:
    """What changed between its first reading and the subscription is told by nobody."""

    async def listen(slow_url: str) -> None:
        client: Any = clients.async_client(redis_url)
        subscriptions = Subscriptions(lambda: clients.async_client(slow_url, None))
        try:
            async with subscriptions.listen("one") as event:
                await asyncio.wait_for(event.wait(), LONG_S)
                assert await client.pubsub_numsub(keys.events("one")) == [
                    (keys.events("one").encode(), 1)
                ]
                # Redis confirms no subscription for a second one, who may have read before a
                # message came, and listens after it.
                async with subscriptions.listen("one") as second:
                    assert second.is_set()
        finally:
            await subscriptions.close()
            await client.aclose()

    with TcpProxy(urlsplit(redis_url).port or 0) as proxy:
        proxy.slow(DELAY_S)
        asyncio.run(listen(proxy.url(redis_url)))
