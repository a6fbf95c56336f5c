"""Stores a vCon as a string in another Redis (or under other keys in the same one).

A vCon is at `<prefix>:<uuid>`, as in vcon-server's redis_storage; a second key holds its revision.
For each document one call of a Lua script compares the revisions and sets both keys. A batch is one
round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, SecretStr

from storage.contract import Document, Outcome, StorageOptions, Stored, Unavailable, servers_in

if TYPE_CHECKING:
    from redis import Redis

# KEYS: the document, its revision. ARGV: body, revision, seconds to live (0: for ever).
# A revision without its document is ignored, because Redis may have evicted the document.
_SAVE = """
local kept = redis.call('GET', KEYS[2])
if kept and tonumber(kept) > tonumber(ARGV[2]) and redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
if tonumber(ARGV[3]) > 0 then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
    redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
else
    redis.call('SET', KEYS[1], ARGV[1])
    redis.call('SET', KEYS[2], ARGV[2])
end
return 1
"""
_CONNECT_TIMEOUT_S = 10


class Options(StorageOptions):
    """Which Redis, and for how long."""

    redis_url: SecretStr = Field(
        default=SecretStr("redis://localhost:6379/0"),
        description="URL of the Redis: redis://, rediss:// or unix://.",
    )
    prefix: str = Field(default="vcon_storage", description="What the keys begin with.")
    expires: int = Field(
        default=604_800, ge=0, description="Seconds until a vCon expires; 0 keeps it."
    )


def prepare(options: Options) -> None:
    """Imports the client before a fork."""
    import redis  # noqa: F401


class Storage:
    """A Redis."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.place = servers_in(options.redis_url.get_secret_value())
        self._options = options
        self._client: Redis | None = None
        self._script = ""

    def open(self) -> None:
        """Connects, and loads the script into Redis."""
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.close()
        options = self._options
        client = Redis.from_url(
            options.redis_url.get_secret_value(),
            socket_timeout=options.timeout_s,
            socket_connect_timeout=min(options.timeout_s, _CONNECT_TIMEOUT_S),
            socket_keepalive=True,
            # Repeat a call once, at once, because an idle connection may have been closed. All
            # calls here may be repeated. By default the client would try for a minute.
            retry=Retry(NoBackoff(), 1),
        )
        try:
            self._script = client.script_load(_SAVE)
        except BaseException:
            client.close()
            raise
        self._client = client

    def close(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def save_many(self, documents: Sequence[Document]) -> list[Outcome]:
        """Saves all documents in one round trip."""
        from redis.exceptions import NoScriptError, ResponseError

        client = self._opened()
        with client.pipeline(transaction=False) as pipeline:
            for document in documents:
                pipeline.evalsha(
                    self._script,
                    2,
                    self._key(document.uuid),
                    self._revision_key(document.uuid),
                    document.body,
                    document.revision,
                    self._options.expires,
                )
            answers = pipeline.execute(raise_on_error=False)
        outcomes: list[Outcome] = []
        for answer in answers:
            if isinstance(answer, NoScriptError):
                # Redis has lost the script by a restart or a flush. `open` loads it again.
                raise answer
            if isinstance(answer, ResponseError):
                outcomes.append(Unavailable(str(answer)))
            elif isinstance(answer, Exception):
                raise answer
            else:
                outcomes.append(Stored(superseded=not answer))
        return outcomes

    def get(self, uuid: str) -> bytes | None:
        """Returns the document's bytes, until they expire."""
        body = self._opened().get(self._key(uuid))
        return body if isinstance(body, bytes) else None

    def delete(self, uuid: str) -> bool:
        """Deletes the document and its revision."""
        client = self._opened()
        there = client.delete(self._key(uuid))
        client.delete(self._revision_key(uuid))
        return bool(there)

    def ready(self) -> None:
        """Writes a small key that expires."""
        self._opened().set(f"{self._options.prefix}:ready", b"", ex=1)

    def _opened(self) -> Redis:
        if self._client is None:
            raise ConnectionError(f"the storage {self.name} is not open")
        return self._client

    def _key(self, uuid: str) -> str:
        return f"{self._options.prefix}:{uuid}"

    def _revision_key(self, uuid: str) -> str:
        # In a cluster, the braces put the revision on the same node as the document.
        return f"{self._options.prefix}:revision:{{{self._key(uuid)}}}"
