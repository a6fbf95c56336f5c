"""A link that fetches what the dialogs of a vCon name, under the rules for strangers' URLs.

The name rebind.test resolves in its process as a DNS server under somebody else's control may let
it: to an address of the Internet when it is asked first, to this machine from then on.
"""

from __future__ import annotations

import socket
from typing import Any

from pydantic import BaseModel, ConfigDict

from conserver.links import LinkContext
from conserver.outbound.fetch import FetchOptions, content
from conserver.vcon.document import Vcon

REBINDING = "rebind.test"
OUTSIDE = "192.88.99.1"  # Nobody answers there, and it is no address of a private network.

_asked: list[str] = []


class Options(BaseModel):
    """The limits of a download."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fetch: FetchOptions = FetchOptions(connect_timeout_s=2)


def prepare(_options: Options) -> None:
    """Let the name resolve as described."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        if host == REBINDING:
            host = "127.0.0.1" if _asked else OUTSIDE
            _asked.append(host)
        return resolve(host, *rest, **named)

    socket.getaddrinfo = getaddrinfo


def run(vcon: Vcon, options: Options, context: LinkContext) -> Vcon:
    """Fetch all, and keep nothing."""
    for dialog in vcon.dialogs:
        content(dialog, options.fetch, context)
    return vcon
