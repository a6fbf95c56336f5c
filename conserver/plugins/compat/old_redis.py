"""Stand-ins for vcon-server's `redis_mgr` and `lib.vcon_redis`.

Commands on `vcon:<uuid>` of an open document (open_documents.py) read and write that document.
Commands on other vCons go to Redis; the key may hold a string or a RedisJSON value. All other
commands go to Redis unchanged.
"""

from __future__ import annotations

import json
import os
from typing import Any

from conserver.plugins.compat import open_documents
from conserver.plugins.compat.old_vcon import Vcon
from conserver.plugins.compat.open_documents import OpenDocument

_PREFIX = "vcon:"
_FOR_EVER = -1
_DEFAULT_URL = "redis://localhost:6379"


def _opened(key: object) -> OpenDocument | None:
    text = str(key)
    return open_documents.find(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else None


class Client:
    """A Redis client for which the keys `vcon:<uuid>` of open documents are not in Redis.

    It connects at the first use, and again in each process, because modules get this object when
    they are imported, which may be before a fork.
    """

    def __init__(self) -> None:
        self._real: Any = None
        self._pid = 0

    @property
    def real(self) -> Any:
        """The client of this process."""
        if self._pid != os.getpid():
            import redis

            from conserver.queue import clients as connection

            url = os.environ.get("REDIS_URL") or _DEFAULT_URL
            pool = connection.pool(url)
            pool.connection_kwargs["decode_responses"] = True
            self._real, self._pid = redis.Redis(connection_pool=pool), os.getpid()
        return self._real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def json(self) -> JsonCommands:
        """The commands of RedisJSON, for documents."""
        return JsonCommands(self)

    def get(self, key: str) -> str | None:
        """GET."""
        opened = _opened(key)
        if opened is not None:
            return json.dumps(opened.content)
        text: str | None = self.real.get(key)
        return text

    def set(self, key: str, value: Any, *arguments: Any, **options: Any) -> Any:
        """SET."""
        opened = _opened(key)
        if opened is None:
            return self.real.set(key, value, *arguments, **options)
        opened.replace(json.loads(value))
        return True

    def expire(self, key: str, seconds: int, *arguments: Any, **options: Any) -> Any:
        """EXPIRE; for an open document, an effect of the item."""
        opened = _opened(key)
        if opened is None:
            return self.real.expire(key, seconds, *arguments, **options)
        if opened.context is not None:
            opened.context.expire(int(seconds))
        return True

    def ttl(self, key: str) -> int:
        """TTL; an open document does not expire, hence -1."""
        return _FOR_EVER if _opened(key) is not None else int(self.real.ttl(key))

    def persist(self, key: str) -> Any:
        """PERSIST."""
        return False if _opened(key) is not None else self.real.persist(key)

    def exists(self, *keys: str) -> int:
        """EXISTS."""
        elsewhere = [key for key in keys if _opened(key) is None]
        found = len(keys) - len(elsewhere)
        return found + (int(self.real.exists(*elsewhere)) if elsewhere else 0)

    def rpush(self, name: str, *values: Any) -> Any:
        """RPUSH; of the uuid of an open document, an effect of the item."""
        contexts = [
            opened.context if (opened := open_documents.find(str(v))) else None for v in values
        ]
        if not values or None in contexts:
            return self.real.rpush(name, *values)
        for context, value in zip(contexts, values, strict=True):
            assert context is not None
            context.push(name, str(value))
        return len(values)


class JsonCommands:
    """JSON.GET and JSON.SET of whole documents; other paths need a Redis with RedisJSON."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client.real.json(), name)

    def get(self, key: str, *paths: Any, **options: Any) -> Any:
        """The document; for the path `$` a list with the document, as RedisJSON answers."""
        opened = _opened(key)
        if opened is not None:
            found: Any = opened.content
        elif str(key).startswith(_PREFIX) and self._client.real.type(key) == "string":
            found = json.loads(self._client.real.get(key))
        else:
            return self._client.real.json().get(key, *paths, **options)
        return [found] if [str(path) for path in paths] == ["$"] else found

    def set(self, key: str, path: Any, value: Any, *arguments: Any, **options: Any) -> Any:
        """Replace the document."""
        opened = _opened(key)
        if opened is not None:
            opened.replace(value)
            return True
        whole = str(key).startswith(_PREFIX) and str(path) in ("$", ".")
        if whole and self._client.real.type(key) != "ReJSON-RL":
            return self._client.real.set(key, json.dumps(value))
        return self._client.real.json().set(key, path, value, *arguments, **options)


redis = Client()


def get_client() -> Client:
    """The process's client."""
    return redis


def get_key(key: str) -> Any:
    """The document at a key."""
    return redis.json().get(key)


def set_key(key: str, value: Any) -> Any:
    """Replace the document at a key."""
    return redis.json().set(key, "$", value)


def delete_key(key: str) -> Any:
    """DEL."""
    return redis.delete(key)


def show_keys(pattern: str) -> Any:
    """KEYS."""
    return redis.keys(pattern)


def json_get(client: Any, key: str) -> Any:
    """The document at a key, read with `client`."""
    return client.json().get(key)


def json_set(client: Any, key: str, value: Any, ttl: int | None = None) -> Any:
    """Replace the document at a key with `client`; `ttl` in seconds."""
    answer = client.json().set(key, "$", value)
    if ttl is not None:
        client.expire(key, ttl)
    return answer


class VconRedis:
    """Reads and writes vCons by uuid. Every `ttl` is in seconds."""

    @property
    def DEFAULT_TTL(self) -> int:  # noqa: N802 - its name.
        """How long a document stays in Redis by default, in seconds."""
        return int(os.environ.get("VCON_REDIS_EXPIRY") or 3600)

    def get_vcon(self, vcon_id: str) -> Vcon | None:
        """The vCon; None if there is none."""
        found = self.get_vcon_dict(vcon_id)
        return Vcon(found) if found else None

    def get_vcon_dict(self, vcon_id: str) -> dict[str, Any] | None:
        """The vCon as a dict; None if there is none."""
        found: dict[str, Any] | None = redis.json().get(f"{_PREFIX}{vcon_id}")
        return found

    def store_vcon(self, vCon: Vcon, ttl: int | None = None) -> None:  # noqa: N803 - its name.
        """Store a vCon."""
        self.store_vcon_dict(vCon.to_dict(), ttl)

    def store_vcon_dict(self, vcon_dict: dict[str, Any], ttl: int | None = None) -> None:
        """Store a vCon given as a dict."""
        key = f"{_PREFIX}{vcon_dict['uuid']}"
        redis.json().set(key, "$", vcon_dict)
        if ttl is not None:
            redis.expire(key, ttl)

    def set_expiry(self, vcon_id: str, ttl: int) -> bool:
        """Set the expiry of the document."""
        return bool(redis.expire(f"{_PREFIX}{vcon_id}", ttl))

    def get_ttl(self, vcon_id: str) -> int:
        """Seconds until the document expires; -1 for never, -2 if there is none."""
        return redis.ttl(f"{_PREFIX}{vcon_id}")

    def remove_expiry(self, vcon_id: str) -> bool:
        """Remove the expiry of the document."""
        return bool(redis.persist(f"{_PREFIX}{vcon_id}"))
