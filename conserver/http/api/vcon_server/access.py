"""Access to vcon-server's routes and to the lists that they name.

The routes take the tokens of /v1, with their roles and lists; CONSERVER_API_TOKEN has the role
admin. A request without a token gets vcon-server's 403. A partner's key (`ingress_auth`) is valid
only for the list under which the configuration has it.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Awaitable, Callable, Iterable

from starlette.requests import Request

from conserver.config.validation import suggest
from conserver.errors import InvalidArgumentError
from conserver.http.api.auth import Failures, check_list, token_with
from conserver.http.api.context import Context, context_of
from conserver.http.api.problems import ProblemError
from conserver.http.api.vcon_server.route import invalid, refusal
from conserver.operations import submit
from conserver.operations.tokens import Token

BAD_KEY = "Invalid API Key"
_FOREIGN = ("tel:", "mailto:", "name:", "context:", "vcon_storage:")
"""Prefixes of vcon-server's Redis keys that are no lists of vCons."""


def allows(role: str) -> Callable[[Request], Awaitable[Token]]:
    """A dependency that gives the request's token if it has the role, else raises 403 or 429."""

    async def dependency(request: Request) -> Token:
        return checked(request, role)

    return dependency


def checked(request: Request, role: str) -> Token:
    """The token of a request, if it has that role. Raises HTTPException or ProblemError."""
    try:
        return token_with(request, role)
    except ProblemError as problem:
        if problem.status == 401:
            raise refusal(403, BAD_KEY) from None
        raise


def check_partner(request: Request, name: str) -> Token:
    """A token for a partner who sent a key that `ingress_auth` has for the list `name`. Raises
    HTTPException if the request has no such key.
    """
    context = context_of(request)
    key = request.headers.get(context.settings.api_header_name, "").strip()
    if not key:
        raise refusal(403, "API Key required")
    known = context.config.ingress_auth
    if not known:
        raise refusal(403, "No ingress authentication configured")
    served = name in _ingress(context) or context.settings.api_any_list
    if name not in known or not served:
        raise refusal(403, f"Ingress list '{name[:200]}' not configured")
    if not known[name]:
        raise refusal(403, f"Invalid configuration for ingress list '{name}'")
    failures: Failures = request.app.state.failures
    address = request.client.host if request.client else ""
    if (wait_s := failures.wait_s(address)) > 0:
        retry = {"Retry-After": str(int(wait_s) + 1)}
        raise refusal(429, "too many requests with a bad key came from this address", retry)
    if not _is_one_of(key, (one.get_secret_value() for one in known[name])):
        failures.count(address)
        raise refusal(403, f"Invalid API Key for ingress list '{name}'")
    partner = Token(f"partner:{name}", ("submit",), (name,))
    if (wait_s := request.app.state.rates.wait_s(partner.name)) > 0:
        retry = {"Retry-After": str(math.ceil(wait_s))}
        raise refusal(429, "this list's key has made its requests of this minute", retry)
    request.state.token = partner  # For the log.
    return partner


def _is_one_of(key: str, known: Iterable[str]) -> bool:
    """Whether a known key is equal. Compares all of them, so that the time reveals nothing."""
    given, found = _digest(key), False
    for one in known:
        found |= hmac.compare_digest(given, _digest(one))
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def ingress_list(context: Context, token: Token, name: str, place: str) -> str:
    """The name, checked: an ingress list of a chain. place: the parameter. Raises: 403 or 422."""
    return _checked(context, token, name, place, _ingress(context))


def egress_list(context: Context, token: Token, name: str, place: str) -> str:
    """The name, checked: an egress list that is no chain's ingress list. Raises: 403 or 422."""
    if name in _ingress(context):
        text = f"a chain takes from the list `{name}`: what is popped there would be lost to it"
        raise invalid(("query", place), "value_error", text)
    return _checked(context, token, name, place, context.config.egress)


def any_list(context: Context, token: Token, name: str, place: str) -> str:
    """The name, checked: a list of the configuration, or its dead letters. Raises: 403 or 422."""
    own = name.removeprefix("DLQ:")
    if own in _ingress(context):
        check_list(token, own)
        return name
    return _checked(context, token, name, place, {**_ingress(context), **context.config.egress})


def is_configured(context: Context, name: str) -> bool:
    """Whether the configuration has the list, or the list holds such a list's dead letters."""
    return name.removeprefix("DLQ:") in _ingress(context) or name in context.config.egress


def _checked(context: Context, token: Token, name: str, place: str, known: Iterable[str]) -> str:
    check_list(token, name)
    if name in known:
        return name
    if not context.settings.api_any_list:
        hint = suggest(name, known)
        text = f"no chain has a list `{name[:200]}`" + (f" ({hint})" if hint else "")
        raise invalid(("query", place), "value_error", text)
    try:
        submit.check_name(name)
    except InvalidArgumentError as error:
        raise invalid(("query", place), "value_error", error.named(place)) from None
    if name.startswith(_FOREIGN) or name == context.settings.vcon_sorted_set_name:
        raise invalid(("query", place), "value_error", f"{name[:200]} is no list of vCons")
    return name


def _ingress(context: Context) -> dict[str, str]:
    return context.config.ingress
