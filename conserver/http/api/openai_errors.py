"""Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}.

Those clients repeat a request by themselves on 408, 409, 429 and 5xx, unless x-should-retry says
otherwise, and wait as Retry-After says if that is at most 120 s. So what another try cannot change
is never one of these without x-should-retry: false. (openai-python, _base_client.py)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from conserver.telemetry.redact import redact_text

RETRY_AFTER_S_MAX = 120
NO_RETRY = {"x-should-retry": "false"}

_PATHS = re.compile(r"/v1/(audio|models)(/|$)")
_STATUSES = {409: 400, 410: 400, 422: 400}
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    "token-needed": "invalid_api_key",
    "too-many-requests": "rate_limit_exceeded",
    "too-many-bad-tokens": "rate_limit_exceeded",
}
_POINTLESS = frozenset({"too-many-bad-tokens", "wrong-type", "store-failed"})
"""Errors that another try makes worse, or cannot change before a person has done something."""

SCHEMA: dict[str, Any] = {
    "title": "OpenAIError",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
    "example": {
        "error": {
            "message": "the model `whisper` does not exist: did you mean `whisper-1`?",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    },
}


def concerns(path: str) -> bool:
    """Whether OpenAI's clients ask for this path. path: without any prefix of a proxy."""
    return _PATHS.match(path) is not None


def body_of(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """The object of an error, in an answer or in a stream."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": redact_text(message), "type": kind, "param": param, "code": code}}


def response(
    status: int, detail: str, kind: str, headers: Mapping[str, str], members: Mapping[str, Any]
) -> JSONResponse:
    """The response of an error that other routes would tell as a problem."""
    status = _STATUSES.get(status, status)
    code = _CODES.get(kind, kind.replace("-", "_"))
    told = dict(headers)
    wait = told.get("Retry-After", "")
    if wait.isdigit():
        told["Retry-After"] = str(min(int(wait), RETRY_AFTER_S_MAX))
    if kind in _POINTLESS:
        told |= NO_RETRY
    return JSONResponse(body_of(status, detail, code, members.get("param")), status, told)
