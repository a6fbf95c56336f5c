"""Callbacks of jobs: what is refused before anything runs, and how a job keeps its callback."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from conserver.config.settings import Settings
from conserver.errors import Rejected
from conserver.outbound import callback as callbacks
from conserver.outbound import signing
from conserver.outbound.callback import Callback
from conserver.outbound.fetch import is_public

__all__ = ["Callback", "check", "fields"]


def check(callback: Callback, settings: Settings) -> None:
    """Refuse a callback that can never arrive.

    Raises:
        Rejected: with the reason: its presigned URL has expired, its address is one of our own
            networks, or there is no secret to sign it with.
    """
    until_s = callback.expires_at
    if until_s is not None and until_s <= time.time():
        at = datetime.fromtimestamp(until_s, UTC).isoformat(timespec="seconds")
        raise Rejected(f"the presigned URL {callback.shown} has expired at {at}: make a new one")
    address = callbacks.address_of(callback.url.get_secret_value())
    if address is not None and not (is_public(address) or settings.callback_private_addresses):
        raise Rejected(
            f"{address} is an address of our own networks: callbacks go there only where "
            "CONSERVER_CALLBACK_PRIVATE_ADDRESSES is true"
        )
    if callback.kind == "webhook" and callback.key not in _secrets(settings):
        what = f"no secret is named {callback.key}" if callback.key else "there is no secret"
        raise Rejected(
            f"a webhook is signed, and {what}: CONSERVER_WEBHOOK_SECRET has one, and the file "
            "CONSERVER_WEBHOOK_SECRET_FILE those with names"
        )


def fields(callback: Callback | None, settings: Settings) -> list[tuple[str, Any]]:
    """The fields that a job with this callback has besides. Raises Rejected, as `check`."""
    if callback is None:
        return []
    check(callback, settings)
    return callbacks.job_fields(callback)


def _secrets(settings: Settings) -> signing.Secrets:
    try:
        return signing.secrets_of(
            settings.webhook_secret.get_secret_value(), settings.webhook_secret_file
        )
    except (ValueError, OSError) as error:
        raise Rejected(f"the secrets of webhooks cannot be read: {error}") from None
