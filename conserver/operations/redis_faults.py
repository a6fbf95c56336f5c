"""Says in a sentence why Redis did not execute a command. The sentence contains no address."""

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
    "unauthenticated": "Redis wants a password; REDIS_URL has none",  # told of a large command
    "WRONGPASS": "Redis refuses the password of REDIS_URL",
    "OOM": "Redis is full: nothing was taken (`conserver doctor` says what fills it)",
    "WRONGTYPE": "a key has another type than it must have (`conserver doctor` names it)",
}
"""First word of Redis's error -> the sentence. For some errors redis-py removes that word and
raises its own class: see _BY_CLASS.
"""

_UNKNOWN = "Redis refuses this; the log has its answer"

_BY_CLASS = {
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
}


def why(error: RedisError | OSError) -> str:
    """A sentence for an error, such as `Redis does not answer in time`."""
    from redis import exceptions

    known = meaning(error)
    if known:
        return known
    if isinstance(error, exceptions.TimeoutError):
        return "Redis does not answer in time"
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return "Redis does not answer: it cannot be reached"
    return _UNKNOWN


def meaning(error: RedisError | OSError) -> str:
    """What an answer with an error means; "" where that is not known."""
    from conserver.queue.retrying_connection import denied_in_script

    if denied_in_script(error):
        return _BY_WORD["NOPERM"]
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_CLASS:
            return _BY_WORD[_BY_CLASS[kind.__name__]]
    words = (word.strip("-:") for word in str(error).split())
    return next((_BY_WORD[word] for word in words if word in _BY_WORD), "")
