"""Callbacks of jobs: checks a callback before its job is submitted, and makes the job's fields."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from conserver.config.settings import Settings
from conserver.config.validation import said
from conserver.errors import InvalidArgumentError, Rejected
from conserver.outbound import callback as callbacks
from conserver.outbound import signing
from conserver.outbound.addresses import is_public
from conserver.outbound.callback import Callback

__all__ = ["Callback", "check", "fields", "read"]


def check(callback: Callback, settings: Settings) -> None:
    """Refuse a callback that can never be delivered.

    Raises:
        Rejected: callbacks are switched off, the presigned URL has expired, the address is in a
            private network, or there is no secret to sign the callback.
    """
    if not settings.callbacks:
        raise Rejected("jobs have no callbacks here: CONSERVER_CALLBACKS is false")
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
    if callback.kind == "webhook" and callback.key not in secrets(settings):
        what = f"no secret is named {callback.key}" if callback.key else "there is no secret"
        raise Rejected(
            f"a webhook is signed, and {what}: CONSERVER_WEBHOOK_SECRET has one, and the file "
            "CONSERVER_WEBHOOK_SECRET_FILE those with names"
        )


def read(text: str) -> Callback:
    """Parse a callback: a URL (then it is a webhook), or a JSON object.

    Raises:
        InvalidArgumentError: the text is neither. The error's text contains no secret.
    """
    try:
        given = orjson.loads(text) if text.lstrip().startswith("{") else {"url": text.strip()}
        return Callback.model_validate(given)
    except orjson.JSONDecodeError as error:
        raise InvalidArgumentError("callback", f"{{}}: is not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "/".join(map(str, first["loc"]))
        text = f"{where}: {said(first)}" if where else said(first)
        raise InvalidArgumentError("callback", f"{{}}: {text}") from None


def fields(callback: Callback | None) -> list[tuple[str, Any]]:
    """The fields that a callback adds to the hash of its job."""
    return [] if callback is None else callbacks.job_fields(callback)


def secrets(settings: Settings) -> signing.Secrets:
    """The secrets that sign webhooks. Raises Rejected if the settings or the file are unusable."""
    try:
        return signing.secrets_of(
            settings.webhook_secret.get_secret_value(), settings.webhook_secret_file
        )
    except (ValueError, OSError) as error:
        raise Rejected(f"the secrets of webhooks cannot be read: {error}") from None
