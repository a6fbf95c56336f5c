"""Errors of the API as application/problem+json (RFC 9457).

Every error has `type`, `title`, `status`, `detail` (one sentence for a person: what is wrong and
what to do) and `request_id`. It reveals no internals: no traceback, no address, no secret.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.types import Scope

from conserver.config.validation import said, suggest
from conserver.http.api import openai_errors

MEDIA_TYPE = "application/problem+json"
_STRANGERS_MAX = 10  # each costs a search for similar names


class ProblemError(Exception):
    """Ends a request with an error. detail: a sentence for the person who sent the request."""

    def __init__(
        self,
        status: int,
        detail: str,
        kind: str = "",
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """
        Args:
            kind: the `type`, a relative URI such as "list-full"; by default made of the status's
                name.
            members: further members of the answer; their names have three letters or more.
        """
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = dict(headers or {})
        self.members = members


def problem(
    status: int,
    detail: str,
    kind: str = "",
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """The response of an error."""
    title = HTTPStatus(status).phrase
    body = {
        "type": kind or _kind_of(title),
        "title": title,
        "status": status,
        "detail": detail,
        **members,
    }
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def _kind_of(title: str) -> str:
    return title.lower().replace(" ", "-")


def is_openais(scope: Scope) -> bool:
    """Whether OpenAI's clients call the path of a request."""
    return openai_errors.concerns(str(scope["path"]).removeprefix(scope.get("root_path", "")))


def respond(
    scope: Scope,
    status: int,
    detail: str,
    kind: str = "",
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> JSONResponse:
    """The response of an error: in OpenAI's form on OpenAI's paths, else a problem."""
    if is_openais(scope):
        kind = kind or _kind_of(HTTPStatus(status).phrase)
        return openai_errors.response(status, detail, kind, headers or {}, members)
    return problem(status, detail, kind, headers, **members)


def invalid(error: ValidationError, place: str = "") -> ProblemError:
    """422, with every fault and its place. place: if given, the place of all faults."""
    errors = [
        {"pointer": place or "/".join(map(str, one["loc"])), "detail": said(one)}
        for one in error.errors(include_url=False, include_input=False)
    ]
    first = errors[0]
    where = f"{first['pointer']}: " if first["pointer"] else ""
    return ProblemError(422, where + first["detail"], "invalid", errors=errors)


def check_members(given: Iterable[str], known: Collection[str]) -> None:
    """Refuse unknown members of an object or fields of a form.

    Raises:
        ProblemError: 422, with the first unknown names, each with the most similar known name.
    """
    errors = [
        {"pointer": name[:80], "detail": f"is not known here ({suggest(name[:80], known)})"}
        for name in islice((name for name in given if name not in known), _STRANGERS_MAX)
    ]
    if errors:
        first = errors[0]
        told = f"{first['pointer']}: {first['detail']}"
        raise ProblemError(422, told, "invalid", errors=errors)
