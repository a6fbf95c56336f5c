"""Turns an error into a sentence for the visitor of a page."""

from __future__ import annotations

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from conserver.errors import OperationError
from conserver.http.api.problems import ProblemError
from conserver.operations import redis_faults
from conserver.outbound.uploads import StoreError

_STATUS_OF_KIND = {"invalid": 422, "not_found": 404, "conflict": 409, "failed": 500}


def status_and_text(error: Exception) -> tuple[int, str]:
    """The HTTP status and the text for an error."""
    if isinstance(error, ProblemError):
        return error.status, error.detail
    if isinstance(error, OperationError):
        return _STATUS_OF_KIND.get(error.kind, 503), str(error)
    if isinstance(error, RedisError):
        return 503, f"{redis_faults.why(error)}. Workers wait for it, and lose nothing."
    if isinstance(error, StoreError):
        return 503, f"{error.strerror}; the log says why."
    if isinstance(error, HTTPException):
        known = {404: "There is no such page.", 405: "This address takes no such request."}
        return error.status_code, known.get(error.status_code, str(error.detail))
    return 500, "This is our fault; the log has it."
