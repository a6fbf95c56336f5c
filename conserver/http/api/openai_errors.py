"""Errors as OpenAI's clients read them: {"error": {"message", "type", "param", "code"}}.

OpenAI's clients repeat a request by themselves on 408, 409, 429 and 5xx, unless the answer has
`x-should-retry: false`; they obey a Retry-After of at most 120 s (openai-python, _base_client.py).
An error that another try cannot change therefore has another status, or that header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

RETRY_AFTER_S_MAX = 120
NO_RETRY = {"x-should-retry": "false"}

# Its clients call all of these. Conserver has the first two; none of the others is a route of its
# own.
_PATHS = re.compile(
    r"/v1/(audio|models|assistants|batches|chat|completions|containers|conversations|embeddings"
    r"|engines|evals|files|fine_tuning|images|moderations|organization|realtime|responses|threads"
    r"|vector_stores|videos)(/|$)"
)
NOTHING_THERE = (
    "there is nothing at this path: of OpenAI's routes Conserver has /v1/audio/transcriptions, "
    "/v1/audio/translations and /v1/models"
)
_STATUSES = {409: 400, 410: 400, 422: 400}
_TYPES = {403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    "token-needed": "invalid_api_key",
    "too-many-requests": "rate_limit_exceeded",
    "too-many-bad-tokens": "rate_limit_exceeded",
}
_POINTLESS = frozenset({"too-many-bad-tokens", "wrong-type", "store-failed"})
"""Errors that another try makes worse, or that last until somebody repairs something."""

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
    """Whether OpenAI's clients call the path, whether or not it is there. path: without a proxy's
    prefix.
    """
    return _PATHS.match(path) is not None


def body_of(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """The JSON object of an error, for an answer or an event of a stream."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def response(
    status: int, detail: str, kind: str, headers: Mapping[str, str], members: Mapping[str, Any]
) -> JSONResponse:
    """The response for an error that other routes would answer as a problem (RFC 9457)."""
    status = _STATUSES.get(status, status)
    code = _CODES.get(kind, kind.replace("-", "_"))
    told = dict(headers)
    wait = told.get("Retry-After", "")
    if wait.isdigit():
        told["Retry-After"] = str(min(int(wait), RETRY_AFTER_S_MAX))
    if kind in _POINTLESS:
        told |= NO_RETRY
    return JSONResponse(body_of(status, detail, code, members.get("param")), status, told)
