"""Fetches and checks the recordings or documents of one vCon, and collects the faults.

A recording or document that is unusable or cannot be fetched does not affect the other parts of the
vCon: the link works on all of them first, and `Faults` then raises one exception for the vCon. The
links transcribe and read_documents share this module.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Protocol

from conserver.errors import Rejected, Retry
from conserver.outbound.endpoint import Patience
from conserver.outbound.faults import FailedAttemptError
from conserver.outbound.fetch import FetchOptions, fetched
from conserver.vcon.document import content_hashes, decode_body

Place = Mapping[str, int]
"""Names a part of the vCon: {"dialog": 1} or {"attachment": 0}."""


class Attempts(Protocol):
    """The part of a LinkContext that `Faults` uses."""

    last_attempt: bool


class ContentAwayError(Exception):
    """The server of a content is not available now. after_s: the wait that the server asked for."""

    def __init__(self, error: Retry) -> None:
        super().__init__(str(error))
        self.after_s = error.after_s


class Faults:
    """Collects the faults of a vCon's parts, and raises one exception for the vCon."""

    def __init__(
        self, context: Attempts, *, skip: bool, warn: Callable[[Place, str], None]
    ) -> None:
        """
        Args:
            skip: whether the vCon goes on in spite of unusable contents.
            warn: called with the place of each unusable part and the reason.
        """
        self._context = context
        self._skip = skip
        self._warn = warn
        self._unusable: list[str] = []
        self._failed: list[str] = []
        self._away: list[str] = []
        self._after_s: float | None = None

    def unusable(self, place: Place, error: Exception) -> None:
        """Note that a content can never be used."""
        self._unusable.append(f"{_named(place)}: {error}")
        self._warn(place, str(error))

    def away(self, place: Place, error: ContentAwayError | FailedAttemptError) -> None:
        """Note that a content cannot be fetched now."""
        if isinstance(error, ContentAwayError):
            self._away.append(f"{_named(place)}: {error}")
            if error.after_s is not None:
                self._after_s = max(error.after_s, self._after_s or 0.0)
        elif self._skip and self._context.last_attempt:
            self.unusable(place, error)
        else:
            self._failed.append(f"{_named(place)}: {error}")

    def raise_if_any(self) -> None:
        """Raise the exception for the vCon. Faults that may pass come first, so that every content
        is tried again before the vCon is dead-lettered.

        Raises:
            Retry: a server is not available.
            FailedAttemptError: the server of a url answered without the content.
            Rejected: contents can never be used; the message has the place and reason of each.
        """
        if self._away:
            raise Retry(self._after_s, "; ".join([*self._away, *self._failed]))
        if self._failed:
            raise FailedAttemptError("; ".join([*self._failed, *self._unusable]))
        if self._unusable and not self._skip:
            raise Rejected("; ".join(self._unusable))


def content_of(part: dict[str, Any], noun: str, options: FetchOptions, patience: Patience) -> bytes:
    """The bytes of a dialog or attachment, from its body or its url, compared with content_hash.

    Raises: as `file_of`.
    """
    with file_of(part, noun, options, patience) as file:
        return file.read()


@contextmanager
def file_of(
    part: dict[str, Any], noun: str, options: FetchOptions, patience: Patience
) -> Iterator[IO[bytes]]:
    """The same as `content_of`, as a file, so that a large download is not in memory. The file is
    closed at the end of the `with`.

    Args:
        noun: the name of the content in messages: "recording".

    Raises:
        ContentAwayError: the server of the url is in trouble, or the content is not ready.
        FailedAttemptError: see `fetch.content`.
        Rejected: the part has no bytes, its hash does not match, or its url may not be fetched.
    """
    body = part.get("body")
    hashes = content_hashes(part)
    if not body and part.get("url"):
        with ExitStack() as stack:
            try:
                file = stack.enter_context(fetched(str(part["url"]), options, patience, hashes))
            except Retry as error:
                raise ContentAwayError(error) from None
            yield file
        return
    content = decode_body(part)
    if not isinstance(content, bytes):
        raise Rejected(f"a body with encoding {part.get('encoding')!r} cannot hold a {noun}")
    for algorithm, digest in hashes:
        if hashlib.new(algorithm, content).digest() != digest:
            raise Rejected(f"the {noun} is not the one that its {algorithm} content_hash names")
    yield io.BytesIO(content)


def _named(place: Place) -> str:
    return " ".join(f"{name} {index}" for name, index in place.items())
