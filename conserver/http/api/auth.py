"""Access control: the token of a request, its roles and its lists.

A route declares `requires("operate")` as a dependency. A request without a known token gets 401,
with a token that lacks the role 403. After too many wrong tokens from one address, all requests
from this address get 429 for a while, except those with a token of `conserver token add`: behind a
proxy all clients have the same address, and one client must not lock out the others. The token of
CONSERVER_API_TOKEN gets 429 as well, because a person chose it and another may guess it.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import HTTPConnection

from conserver.http.api.context import Context, context_of
from conserver.http.api.problems import ProblemError
from conserver.operations.tokens import ROLES, Token

ANYBODY = Token("anybody", ("admin",))
"""The token of every request if no token is configured. The API then serves loopback only."""

FAILURES_MAX = 20
FAILURES_WINDOW_S = 60.0
ADDRESSES_MAX = 10_000


class Failures:
    """Counts the recent wrong tokens of each address, in the memory of this process: another
    replica counts its own.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long this address has to wait before it may try again; 0 if it may."""
        count, since_s = self._counts.get(address, (0, 0.0))
        left_s = since_s + FAILURES_WINDOW_S - self._clock()
        return left_s if count >= FAILURES_MAX and left_s > 0 else 0.0

    def count(self, address: str) -> None:
        """Count a wrong token of this address."""
        now_s = self._clock()
        count, since_s = self._counts.pop(address, (0, now_s))
        if now_s - since_s >= FAILURES_WINDOW_S:
            count, since_s = 0, now_s
        self._counts[address] = (count + 1, since_s)
        while len(self._counts) > ADDRESSES_MAX:
            self._counts.popitem(last=False)


class Rates:
    """How many requests each token may still make. Each process has its own count, in memory.

    A token bucket: it holds the requests of one minute and refills steadily, so it lets a burst
    pass and limits the average.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """per_minute: 0 for no limit."""
        self._most = per_minute
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, name: str) -> float:
        """Take one request: 0, or how long the token has to wait for its next one."""
        if not self._most:
            return 0.0
        now_s, per_s = self._clock(), self._most / 60
        left, at_s = self._left.get(name, (float(self._most), now_s))
        left = min(left + (now_s - at_s) * per_s, float(self._most))
        if left < 1:
            self._left[name] = (left, now_s)
            return (1 - left) / per_s
        self._left[name] = (left - 1, now_s)
        return 0.0


def requires(role: str) -> Callable[[HTTPConnection], Awaitable[Token]]:
    """A dependency that gives the token of the request, if it has that role.

    Raises:
        ProblemError: 401, 403 or 429.
    """
    assert role in ROLES

    async def dependency(request: HTTPConnection) -> Token:
        return token_with(request, role)

    return dependency


def token_with(request: HTTPConnection, role: str) -> Token:
    """The token of the request, if it has that role. Raises ProblemError: 401, 403 or 429."""
    token = token_of(request)
    if not token.may(role):
        raise ProblemError(
            403,
            f"the token `{token.name}` has not the role `{role}` that this needs",
            "role-missing",
        )
    return token


def token_of(request: HTTPConnection) -> Token:
    """The token of a request. Raises ProblemError: 401 or 429."""
    known: Token | None = getattr(request.state, "token", None)
    if known is not None:
        return known
    context = context_of(request)
    if context.is_open:
        request.state.token = ANYBODY
        return ANYBODY
    texts = _texts_of(request, context.settings.api_header_name)
    token = find(request, context, request.app.state.failures, texts)
    if (wait_s := request.app.state.rates.wait_s(token.name)) > 0:
        raise ProblemError(
            429,
            f"the token `{token.name}` has made its requests of this minute",
            "too-many-requests",
            {"Retry-After": str(math.ceil(wait_s))},
        )
    request.state.token = token
    return token


def find(
    request: HTTPConnection, context: Context, failures: Failures, texts: Sequence[str]
) -> Token:
    """The token that the first known one of these texts stands for.

    Args:
        texts: what the sender of the request offers as tokens.

    Raises:
        ProblemError: 401, or 429 if too many wrong tokens came from the sender's address.
    """
    address = request.client.host if request.client else ""
    known = (context.keyring.find(text) for text in texts)
    token = next((one for one in known if one is not None), None)
    safe = token is not None and not token.guessable
    if not safe and (wait_s := failures.wait_s(address)) > 0:
        raise ProblemError(
            429,
            "too many requests with a bad token came from this address; try again later",
            "too-many-bad-tokens",
            {"Retry-After": str(int(wait_s) + 1)},
        )
    if token is None:
        if texts:
            failures.count(address)
        what = "is not known" if texts else "is missing"
        raise ProblemError(
            401,
            f"the token {what}: send it as `Authorization: Bearer TOKEN`"
            f" or in the header {context.settings.api_header_name}",
            "token-needed",
            {"WWW-Authenticate": 'Bearer realm="conserver"'},
        )
    return token


def _texts_of(request: HTTPConnection, header: str) -> list[str]:
    """The texts that the request offers as its token: usually one; none without a token.

    The whole value of the header `header` is one of them, even if it is Authorization and the
    value begins with `Bearer`, because vcon-server compares the whole value.
    """
    whole = request.headers.get(header, "").strip()
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    texts = [bearer.strip()] if scheme.lower() == "bearer" else []
    offered = request.scope.get("subprotocols", ())  # A browser's WebSocket can send no header.
    # Only the first one, so that a request offers one guess, which is counted.
    texts += [one.removeprefix("bearer.") for one in offered if one.startswith("bearer.")][:1]
    return [text for text in (*texts, whole) if text]


def check_list(token: Token, name: str) -> None:
    """Check that the token may use the list. Raises ProblemError: 403."""
    if not token.may_use(name):
        raise ProblemError(
            403, f"the token `{token.name}` may not use the list `{name}`", "list-forbidden"
        )


def check_unrestricted(token: Token, what: str) -> None:
    """Check that a token may do something that concerns all lists.

    Args:
        what: for the error, such as "may not use schedules".

    Raises:
        ProblemError: 403: the token is restricted to lists.
    """
    if token.lists:
        text = f"a token that is restricted to lists {what}"
        raise ProblemError(403, text, "list-forbidden")
