"""Posts every vCon to one or several URLs, whose receivers keep it.

If all receivers answer 2xx, the vCon is stored. A receiver can get a vCon more than once, and an
older revision after a newer one. The headers `x-conserver-uuid` and `x-conserver-revision` name the
revision. A receiver answers 409 if it has a newer revision. This storage cannot read back or delete
a vCon.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import Field, HttpUrl, SecretStr

from storage import network
from storage.contract import (
    Document,
    Outcome,
    Rejected,
    StorageOptions,
    Stored,
    Unavailable,
    servers_in,
)
from storage.http import BROKEN, Answer, Server
from storage.pool import Pool

_CONFLICT = 409
# Answers that refuse the document itself. All others can go away: a wrong address or token (401,
# 403, 404), a server that is busy (408, 425, 429) or down (5xx).
_REFUSES_THE_DOCUMENT = frozenset([400, 406, 410, 413, 415, 422])
_QUOTED_CHARS = 200


class Options(StorageOptions):
    """Where to post, with which headers and signature."""

    webhook_urls: list[HttpUrl] = Field(
        min_length=1, alias="webhook-urls", description="URLs that every vCon is posted to."
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Further headers, such as authorization."
    )
    secret: SecretStr | None = Field(
        default=None,
        description="Signs the body: x-conserver-signature is sha256= and its HMAC in hex.",
    )
    concurrency: int = Field(
        default=4, ge=1, le=64, description="How many vCons are posted at the same time."
    )
    ca_certs: str | None = Field(
        default=None,
        description="File or folder with the certificates to trust, instead of the environment's.",
    )


def prepare(options: Options) -> None:
    """Checks proxies and certificates, without a connection."""
    network.check(map(str, options.webhook_urls), ca_file=options.ca_certs)


class Storage:
    """The receivers."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = servers_in(*map(str, options.webhook_urls))
        self._options = options
        self._headers = {"content-type": "application/json"}
        for header, value in options.headers.items():
            self._headers[header.lower()] = value.get_secret_value()
        self._receivers: list[tuple[Server, str]] = []
        self._pool: Pool | None = None

    def open(self) -> None:
        """Sends nothing yet: a receiver may accept nothing but a POST."""
        self.close()
        urls = list(map(str, self._options.webhook_urls))
        secure = any(url.startswith("https:") for url in urls)
        tls = network.tls_context(network.trust(self._options.ca_certs)) if secure else None
        for url in urls:
            parts = urlsplit(url)
            path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            self._receivers.append((Server(url, tls), path))
        self._pool = Pool(self.name, self._options.concurrency, BROKEN)

    def close(self) -> None:
        """Closes the connections."""
        for server, _ in self._receivers:
            server.close()
        self._receivers.clear()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Posts the documents, several at a time."""
        if self._pool is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._pool.run(documents, self._save, self._options.timeout_s)

    def get(self, uuid: str) -> bytes | None:
        """Returns None: nothing can be read back."""
        self._opened()
        return None

    def delete(self, uuid: str) -> bool:
        """Returns False: nothing can be deleted."""
        self._opened()
        return False

    def ready(self) -> None:
        """Connects to every receiver."""
        for server, _ in self._opened():
            server.connect(self._options.timeout_s)

    def _opened(self) -> list[tuple[Server, str]]:
        if not self._receivers:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._receivers

    def _save(self, document: Document, deadline: float) -> Outcome:
        """Posts to the receivers in order. The first that refuses the vCon decides the outcome."""
        headers = self._headers | {
            "x-conserver-uuid": document.uuid,
            "x-conserver-revision": str(document.revision),
        }
        if not document.uuid.isprintable() or not document.uuid.isascii():
            return Rejected("the uuid cannot be sent in a header")
        if self._options.secret is not None:
            key = self._options.secret.get_secret_value().encode()
            digest = hmac.digest(key, document.body, "sha256").hex()
            headers["x-conserver-signature"] = f"sha256={digest}"
        superseded = True
        for server, path in self._opened():
            answer = server.request("POST", path, document.body, headers, deadline)
            if answer.status != _CONFLICT:
                superseded = False
                if not answer.ok:
                    return _refusal(server, answer)
        return Stored(superseded=superseded)


def _refusal(server: Server, answer: Answer) -> Outcome:
    said = answer.body[:_QUOTED_CHARS].decode(errors="replace").strip()
    reason = f"{server.name} answers {answer.status}{': ' if said else ''}{said}"
    if answer.status in _REFUSES_THE_DOCUMENT:
        return Rejected(reason)
    return Unavailable(reason, answer.retry_after_s)
