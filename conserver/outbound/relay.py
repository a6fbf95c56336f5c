"""Passes the content behind a URL of a vCon on as it arrives, whole or one range of it.

For people who listen: nothing is kept, and the rules are those of fetch.py. Only the hash that the
vCon promises is not compared, because a range has none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from conserver.outbound.fetch import FetchOptions, answer_of

if TYPE_CHECKING:
    import httpcore

PASSED_ON = ("content-length", "content-range", "accept-ranges", "etag", "last-modified")
"""The headers of the server that whoever listens gets."""


class Relay:
    """An open answer. `close` it, whatever happens.

    Attributes:
        status: 200, or 206 for a range.
        headers: those of PASSED_ON that the server sent.
    """

    def __init__(self, url: str, options: FetchOptions, wanted: str) -> None:
        """Asks for the content.

        Args:
            wanted: the Range header (RFC 9110, section 14.2); "" for all of it. A server may
                answer with all of it in any case.

        Raises: as fetch.content.
        """
        more = [(b"Range", wanted.encode("latin-1", "replace"))] if wanted else []
        end = time.monotonic() + options.timeout_s
        with ExitStack() as stack:
            found = stack.enter_context(answer_of(url, options, _Listener(), end, more))
            self._response: httpcore.Response
            self._response, headers = found
            self._stack = stack.pop_all()
        self.status = self._response.status
        self.headers: Mapping[str, str] = {
            name: headers[name] for name in PASSED_ON if name in headers
        }

    def chunks(self) -> Iterator[bytes]:
        """The content, as it arrives. Raises Retry where it breaks off."""
        try:
            yield from self._response.iter_stream()
        except BaseException as error:
            # The stack knows what each of the library's errors means.
            if not self._stack.__exit__(type(error), error, error.__traceback__):
                raise

    def close(self) -> None:
        """End the connection, or give it back where the content has been read."""
        self._stack.close()


class _Listener:
    """A person has no time limit here, and is gone when the connection is."""

    def remaining_s(self) -> float | None:
        return None

    def check_cancelled(self) -> None:
        return None
