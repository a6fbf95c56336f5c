"""Announced uploads (POST /v1/uploads): Redis keeps their labels and size, for every replica."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson

from conserver.http.api import bodies
from conserver.http.api.context import Context
from conserver.outbound.uploads import Offer, Upload, is_id
from conserver.queue import keys

_KEPT_S = 604_800
"""How long an offer is kept after its end, if uploads never expire: an upload that was sent to the
presigned URL can be used until then.
"""


async def note(context: Context, upload_id: str, offer: Offer) -> None:
    """Store an offer in Redis."""
    kept_s = context.settings.upload_offer_s + (context.settings.upload_expiry_s or _KEPT_S)
    await context.redis.set(keys.upload(upload_id), orjson.dumps(asdict(offer)), ex=kept_s)


async def of(context: Context, upload_id: str) -> Offer | None:
    """The offer of an upload; None if it was not announced, or too long ago."""
    text: Any = await context.redis.get(keys.upload(upload_id)) if is_id(upload_id) else None
    return Offer(**orjson.loads(text)) if text else None


async def complete(context: Context, upload_id: str) -> Upload | None:
    """A complete upload, sent to this API or to a presigned URL; None if no upload has the id.

    Raises:
        ProblemError: 413: it was sent to a presigned URL and is too large.
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
