"""What Redis refuses becomes an error that says of which kind it is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from servers import Redis

from conserver.config.settings import Settings
from conserver.errors import OperationError
from conserver.operations.connection import redis_client, translated_errors
from conserver.queue import keys
from tests.conftest import Private


def test_a_server_that_is_away_is_unavailable() -> None:
    """Its password is not in the message."""
    settings = Settings(redis_url=SecretStr("redis://user:pa55@127.0.0.1:1"))
    with pytest.raises(OperationError) as caught, redis_client(settings):
        pass
    assert caught.value.kind == "unavailable"
    assert "redis://user:***@127.0.0.1:1 cannot be reached" in str(caught.value)


def test_a_wrong_password_is_denied(private: Private) -> None:
    """Redis answers; waiting for it would be of no use."""
    port = private(Redis({"requirepass": "right"})).port
    settings = Settings(redis_url=SecretStr(f"redis://:wr0ng@127.0.0.1:{port}"))
    with (
        pytest.raises(OperationError, match="refuses us") as caught,
        redis_client(settings),
    ):
        pass
    assert caught.value.kind == "denied"


def test_a_key_of_the_wrong_type_is_named(redis_url: str, server: Any) -> None:
    """Around calls with a client that is kept, too."""
    server.set(keys.CONTROL, "x")
    with pytest.raises(OperationError) as caught, translated_errors(server, redis_url):
        server.hkeys(keys.CONTROL)
    assert caught.value.kind == "failed"
    text = "conserver:control is a string and must be a hash: rename or delete it"
    assert str(caught.value).splitlines()[1] == f"  - {text}"
    assert server.ping(), "the client is still usable"
