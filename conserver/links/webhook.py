"""webhook: POSTs the vCon, as it is at this place of the chain, to one or more URLs.

    options:
      urls: [https://crm.example.com/vcons]     vcon-server's name `webhook-urls` works too
      headers: {Authorization: "Bearer ${CRM_TOKEN}"}
      secret: ${WEBHOOK_SECRET}                 signs each call (Standard Webhooks)

Every answer except 2xx is a failure; outbound/faults.py decides what follows. After 429, 5xx or a
failed connection the link repeats the call a few times, and then the item is parked. If the URL or
the credentials are wrong (3xx, 401, 403, 404, ...), the item is parked at once. 413 dead-letters
the item. Any other answer (400, 422, ...) is a failed attempt, which the chain's `retries` repeat.

Delivery is at least once: an endpoint may receive a call again, with the same `webhook-id`.
"""

from __future__ import annotations

import hashlib
import time

from pydantic import AliasChoices, AnyHttpUrl, Field, SecretStr, field_validator

from conserver.links import LinkContext
from conserver.outbound import endpoint, signing
from conserver.vcon.document import Vcon


class Options(endpoint.CallOptions):
    """URLs, headers and signature, and the limits that all links with an endpoint have."""

    urls: tuple[AnyHttpUrl, ...] = Field(
        min_length=1, validation_alias=AliasChoices("urls", "webhook-urls", "webhook_urls")
    )
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    content_type: str = "application/json"
    secret: SecretStr = SecretStr("")

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            signing.key_of(value.get_secret_value())
        return value


def prepare(options: Options) -> None:
    """Import the HTTP library, and check the proxy and the certificates for the URLs."""
    endpoint.prepare(map(str, options.urls), options.ca_file)


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """POST to every URL, in order, up to the first failure."""
    body = vcon.dump()
    headers = {name.lower(): value.get_secret_value() for name, value in options.headers.items()}
    headers.setdefault("content-type", options.content_type)
    # The id depends only on the content, so that a repeated call has the same id.
    identity = f"{vcon.uuid}.{hashlib.sha256(body).hexdigest()[:16]}"
    headers["webhook-id"] = identity
    for url in options.urls:
        stamp = str(int(time.time()))
        headers["webhook-timestamp"] = stamp
        if secret := options.secret.get_secret_value():
            headers["webhook-signature"] = signing.signature([secret], identity, stamp, body)
        endpoint.post(str(url), body, headers, options, context)
    return vcon
