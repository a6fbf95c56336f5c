"""The contents of several parts of one vCon: fetched, checked, and what follows if some are bad.

A content that can never be used, or that cannot be had now, does not affect the other parts: they
are worked on first, and then what is wrong concerns the vCon. Links that read recordings or
documents share this.
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
"""Which part: {"dialog": 1} or {"attachment": 0}."""


class Attempts(Protocol):
    """What `Faults` asks the link's context."""

    last_attempt: bool


class ContentAwayError(Exception):
    """The server of a content is not available now; it may have said until when."""

    def __init__(self, error: Retry) -> None:
        super().__init__(str(error))
        self.after_s = error.after_s


class Faults:
    """The parts that could not be worked on, and what follows for the vCon."""

    def __init__(
        self, context: Attempts, *, skip: bool, warn: Callable[[Place, str], None]
    ) -> None:
        """
        Args:
            skip: whether unusable contents are only told of, and the vCon goes on.
            warn: called with each unusable part and the reason.
        """
        self._context = context
        self._skip = skip
        self._warn = warn
        self._unusable: list[str] = []
        self._failed: list[str] = []
        self._away: list[str] = []
        self._after_s: float | None = None

    def unusable(self, place: Place, error: Exception) -> None:
        """The content can never be used."""
        self._unusable.append(f"{_named(place)}: {error}")
        self._warn(place, str(error))

    def away(self, place: Place, error: ContentAwayError | FailedAttemptError) -> None:
        """The content cannot be fetched, which may pass."""
        if isinstance(error, ContentAwayError):
            self._away.append(f"{_named(place)}: {error}")
            if error.after_s is not None:
                self._after_s = max(error.after_s, self._after_s or 0.0)
        elif self._skip and self._context.last_attempt:
            self.unusable(place, error)
        else:
            self._failed.append(f"{_named(place)}: {error}")

    def raise_if_any(self) -> None:
        """Raise what concerns the vCon: first what may pass, so that all is tried before its end.

        Raises:
            Retry: a server is not available.
            FailedAttemptError: a url does not give its content.
            Rejected: contents can never be used, each with its place and the reason.
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
    """`content_of` as a file, which is closed at the end: what a url gives is not in memory whole.

    Args:
        noun: what the bytes are, for messages: "recording".

    Raises:
        ContentAwayError, FailedAttemptError: see `fetch.content`.
        Rejected: it has no bytes, others than its hash names, or may not be fetched.
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
