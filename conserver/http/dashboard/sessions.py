"""Sessions: a visitor exchanges a token for a cookie, which is valid for some hours.

    conserver:session:<SHA-256 of the cookie>   hash: token (its SHA-256), began_ms, said (the
                                                message for the next page, as JSON); expires

The cookie is a random text. It has no Path, so a browser sends it only to addresses in the folder
of .../ui/login, which set it: to exactly this dashboard, under any prefix of a proxy. Its name
differs between installations, because browsers share cookies between the ports of one host.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from conserver.http.api.context import Context
from conserver.operations.tokens import Token
from conserver.queue import keys, wishes

Said = Mapping[str, str]
"""{"text": ..., "kind": "done" or "failed"}"""


class Sessions:
    """The sessions of this dashboard. They are in Redis, so all replicas share them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._keep_s = context.settings.ui_session_s
        url = context.settings.redis_url.get_secret_value()
        self.cookie_name = "conserver_" + hashlib.sha256(url.encode()).hexdigest()[:8]

    def cookie_of(self, request: Request) -> str:
        """The visitor's cookie; "" for none."""
        return request.cookies.get(self.cookie_name, "")

    def set_cookie(self, request: Request, response: Response, value: str, path: str = "") -> None:
        """Give the visitor a cookie. path: "" for the folder of this address."""
        response.set_cookie(
            self.cookie_name,
            value,
            max_age=self._keep_s,
            path=path or None,
            secure=is_secure(request),
            httponly=True,
            samesite="lax",
        )

    async def begin(self, token: Token) -> str:
        """Begin a session. Returns its cookie."""
        return await asyncio.to_thread(self._begin, token)

    def _begin(self, token: Token) -> str:
        cookie = new_cookie()
        fields = {"token": token.sha256, "began_ms": int(time.time() * 1000)}
        with self._context.client() as client:
            wishes.ask(client, _key(cookie), fields, expire_s=self._keep_s)
        return cookie

    async def end(self, cookie: str) -> None:
        """End a session."""
        await self._context.redis.delete(_key(cookie))

    async def load(self, cookie: str) -> tuple[Token | None, Said | None]:
        """The session's token, and the message for this page. (None, None): it has ended."""
        if not cookie:
            return None, None
        key = _key(cookie)
        digest, said = await _awaited(self._context.redis.hmget(key, "token", "said"))
        if said:
            await _awaited(self._context.redis.hdel(key, "said"))
        token = self._context.keyring.with_digest(digest.decode()) if digest else None
        return token, orjson.loads(said) if said else None

    def say(self, cookie: str, text: str, kind: str) -> None:
        """Store a message for the visitor's next page. Call this from a thread."""
        key = _key(cookie)
        with self._context.client() as client:
            wishes.ask(client, key, {"said": orjson.dumps({"text": text, "kind": kind})})
            client.expire(key, self._keep_s, nx=True)


def new_cookie() -> str:
    """A random value for a cookie."""
    return secrets.token_urlsafe(32)


def is_secure(request: Request) -> bool:
    """Whether the browser uses https, also if a proxy ends the TLS connection."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


def _key(cookie: str) -> str:
    return keys.session(hashlib.sha256(cookie.encode()).hexdigest())


async def _awaited(answer: Any) -> Any:
    """Await an answer. (redis-py types answers of its asyncio client as awaitable or not.)"""
    return await answer
