"""Clients of Redis for operations, and what Redis refuses as errors for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from conserver.errors import OperationError
from conserver.telemetry.redact import redact_text

if TYPE_CHECKING:
    from conserver.config.settings import Settings

Client: TypeAlias = Any
"""A blocking redis.Redis that decodes nothing. redis-py types each answer as what any of its
clients may answer; those of this one are bytes, integers, and lists of them.
"""


@contextmanager
def redis_client(settings: Settings, timeout_s: float = 5.0) -> Iterator[Client]:
    """A client that has answered a PING. It is closed at the end.

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
    """Turns the errors of Redis inside into OperationError.

    Raises:
        OperationError: of the kind "unavailable" where Redis does not answer, "denied" where it
            refuses the login, "failed" where it refused a command. A command that failed for the
            type of a key names the key.
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
        text = f"Redis at {shown} refused: {error}{_wrong_keys(client, error)}"
        raise OperationError(text, "failed") from None


def _wrong_keys(client: Client, error: Exception) -> str:
    """The keys of the wrong type, where that is the error: Redis does not say which key it was."""
    from redis.exceptions import RedisError

    from conserver.queue import lookup, wrong_type

    if not wrong_type.is_wrong_type(error):
        return ""
    try:
        return "".join(f"\n  - {wrong}" for wrong in lookup.wrong_keys(client))
    except RedisError:
        return ""  # The first error is the one that matters.
