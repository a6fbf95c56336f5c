"""Makes Redis clients for operations, and translates Redis's errors to OperationError."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from conserver.errors import OperationError
from conserver.operations import redis_faults
from conserver.telemetry.redact import redact_text

if TYPE_CHECKING:
    from conserver.config.settings import Settings

_OF_SCRIPT = re.compile(r"\s*script: [0-9a-f]{40}, on @user_script:\d+\.?")
"""Where a script was when its command was refused, which Redis tells behind its error."""

Client: TypeAlias = Any
"""A blocking redis.Redis that decodes nothing: its answers are bytes, integers, and lists of these.
The type is Any, because redis-py types each answer as the union of what any of its clients returns.
"""


@contextmanager
def redis_client(settings: Settings, timeout_s: float = 5.0) -> Iterator[Client]:
    """A client whose Redis has answered a PING. The client is closed at the end.

    Raises:
        OperationError: see `translated_errors`.
    """
    from conserver.queue import clients

    url = settings.redis_url.get_secret_value()
    client = clients.client(url, timeout_s)
    try:
        with translated_errors(client, url):
            client.ping()
            yield client
    finally:
        client.close()


@contextmanager
def translated_errors(client: Client, url: str) -> Iterator[None]:
    """Translate Redis errors inside the `with` block to OperationError.

    Raises:
        OperationError: "unavailable" if Redis does not answer, "denied" if it refuses the login,
            "failed" if it refuses a command. If a command failed because a key has the wrong type,
            the error names the keys of the wrong type.
    """
    from redis import exceptions

    shown = redact_text(url)
    try:
        yield
    except exceptions.AuthenticationError as error:
        raise OperationError(f"Redis at {shown} refuses us: {error}", "denied") from None
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise OperationError(
            f"Redis at {shown} cannot be reached: {error}", "unavailable"
        ) from None
    except exceptions.RedisError as error:
        said = _OF_SCRIPT.sub("", str(error)).rstrip(".")
        meant = redis_faults.meaning(error)
        more = _wrong_keys(client, error) or (f" ({meant})" if meant else "")
        raise OperationError(f"Redis at {shown} refused: {said}{more}", "failed") from None


def _wrong_keys(client: Client, error: Exception) -> str:
    """Lines that name the keys of the wrong type, if that is the error. (Redis names no key.)"""
    from redis.exceptions import RedisError

    from conserver.queue import lookup, wrong_type

    if not wrong_type.is_wrong_type(error):
        return ""
    try:
        return "".join(f"\n  - {wrong}" for wrong in lookup.wrong_keys(client))
    except RedisError:
        return ""  # the caller reports the first error


def server_version(info: Mapping[str, Any]) -> tuple[str, str]:
    """The name and version of a server, from its INFO. Valkey also tells the version of Redis that
    it is compatible with.
    """
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info.get("redis_version", "0"))
