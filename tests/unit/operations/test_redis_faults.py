"""Why Redis did not do something, in words that lead to what has to be mended."""

from __future__ import annotations

import pytest
from redis import exceptions

from conserver.operations.redis_faults import why


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.TimeoutError("Timeout reading from 10.0.0.1:6379"), "not answer in time"),
        (exceptions.ConnectionError("Error 111 connecting to 10.0.0.1:6379"), "cannot be reached"),
        (exceptions.BusyLoadingError("Redis is loading"), "still loads its data"),
        (exceptions.OutOfMemoryError("command not allowed"), "Redis is full"),
        (exceptions.ReadOnlyError("You can't write"), "is a replica"),
        (exceptions.NoPermissionError("this user has no permissions"), "lacks a right"),
        (
            exceptions.ResponseError("The user executing the script can't run this command"),
            "lacks a right",
        ),
        (exceptions.AuthenticationError("invalid username"), "refuses the password"),
        (exceptions.ResponseError("NOAUTH Authentication required."), "wants a password"),
        (exceptions.ResponseError("Protocol error: unauthenticated bulk length"), "a password"),
        (
            exceptions.ResponseError("MISCONF Redis is configured to save"),
            "cannot save to its disk",
        ),
        (exceptions.ResponseError("user_script:12: -MISCONF Redis"), "cannot save to its disk"),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), "has another type"),
        (exceptions.ResponseError("ERR 10.0.0.1 is unknown"), "the log has its answer"),
    ],
)
def test_each_answer_has_its_sentence(error: exceptions.RedisError, said: str) -> None:
    """Without the address, which a visitor who has not logged in would see."""
    text = why(error)
    assert said in text
    assert "10.0.0.1" not in text
