"""Passes a recording from its URL on to a listener's browser as it arrives, whole or one range.

Nothing is stored. The rules of fetch.py hold, with one exception: the content's hash is not
compared, because a range has none.
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
"""The headers of the server's answer that are passed on."""


class Relay:
    """The open answer of a server. Call `close` in any case.

    Attributes:
        status: 200, or 206 for a range.
        headers: the server's headers that are in PASSED_ON.
    """

    def __init__(self, url: str, options: FetchOptions, wanted: str) -> None:
        """Asks for the content.

        Args:
            wanted: the Range header (RFC 9110, section 14.2); "" for the whole content. A server
                may answer with the whole content in either case.

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
        """The content, as it arrives. Raises Retry if it breaks off."""
        try:
            yield from self._response.iter_stream()
        except BaseException as error:
            # The context manager of `answer_of` turns the library's errors into Retry.
            if not self._stack.__exit__(type(error), error, error.__traceback__):
                raise

    def close(self) -> None:
        """Close the connection, or return it to the pool if the content was read to its end."""
        self._stack.close()


class _Listener:
    """A Patience without a time limit. It is never cancelled: the browser just disconnects."""

    def remaining_s(self) -> float | None:
        return None

    def check_cancelled(self) -> None:
        return None
