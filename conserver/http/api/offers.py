"""Uploads that were announced: what was said of them, in Redis, so that every replica knows it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson

from conserver.http.api import bodies
from conserver.http.api.context import Context
from conserver.outbound.uploads import Offer, Upload, is_id
from conserver.queue import keys

_KEPT_S = 604_800
"""How long after its time what came by a presigned URL can be used, if uploads never expire."""


async def note(context: Context, upload_id: str, offer: Offer) -> None:
    """Keep what was announced."""
    kept_s = context.settings.upload_offer_s + (context.settings.upload_expiry_s or _KEPT_S)
    await context.redis.set(keys.upload(upload_id), orjson.dumps(asdict(offer)), ex=kept_s)


async def of(context: Context, upload_id: str) -> Offer | None:
    """What was announced of an upload; None: nothing, or too long ago."""
    text: Any = await context.redis.get(keys.upload(upload_id)) if is_id(upload_id) else None
    return Offer(**orjson.loads(text)) if text else None


async def complete(context: Context, upload_id: str) -> Upload | None:
    """A complete upload, on whichever way it came; None if there is none of that id.

    Raises:
        ProblemError: 413: it came by a presigned URL and is too large.
        StoreError: the bucket does not answer.
    """
    offer = await of(context, upload_id)
    if offer is None:
        return await context.transfer(context.uploads.find, upload_id)
    most_bytes = context.settings.upload_max_bytes
    try:
        return await context.transfer(context.uploads.adopt, upload_id, offer, most_bytes)
    except ValueError:
        raise bodies.too_large(most_bytes) from None
