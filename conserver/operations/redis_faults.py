"""Why Redis did not do what it was asked, in a sentence for people. Addresses are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.exceptions import RedisError

_BY_WORD = {
    "MISCONF": "Redis cannot save to its disk, so it refuses every change; its log says why",
    "READONLY": "this Redis is a replica and refuses changes; REDIS_URL must lead to the primary",
    "LOADING": "Redis has started and still loads its data",
    "BUSY": "Redis is busy with a script",
    "NOPERM": "the login lacks a right (`conserver doctor` says which)",
    "NOAUTH": "Redis wants a password; REDIS_URL has none",
    "WRONGPASS": "Redis refuses the password of REDIS_URL",
    "OOM": "Redis is full: nothing was taken (`conserver doctor` says what fills it)",
    "WRONGTYPE": "a key has another type than it must have (`conserver doctor` names it)",
}
"""By the word with which an answer begins; redis-py takes some of them off and raises a class."""

_UNKNOWN = "Redis refuses this; the log has its answer"

_BY_CLASS = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
}


def why(error: RedisError) -> str:
    """`Redis does not answer in time`, and the like."""
    from redis import exceptions

    for kind in type(error).__mro__:
        if kind.__name__ in _BY_CLASS:
            return _BY_WORD[_BY_CLASS[kind.__name__]]
    if isinstance(error, exceptions.TimeoutError):
        return "Redis does not answer in time"
    if isinstance(error, exceptions.ConnectionError):
        return "Redis does not answer: it cannot be reached"
    words = (word.strip("-:") for word in str(error).split())
    return next((_BY_WORD[word] for word in words if word in _BY_WORD), _UNKNOWN)
