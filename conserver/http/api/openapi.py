"""The OpenAPI description: FastAPI's description of the routes, completed with their errors.

A route declares only its particular errors. This module adds the errors that all routes share (401,
403, 422, 429, 503 and so on), and the form of each error: a problem of RFC 9457.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from conserver.http.api import openai_errors
from conserver.http.api.problems import MEDIA_TYPE

_PROBLEM = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "Which error: a short name."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do."},
        "request_id": {"type": "string", "description": "The log has more under this id."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
    "example": {
        "type": "list-unknown",
        "title": "Not Found",
        "status": 404,
        "detail": "no chain takes from a list `call` (did you mean `calls`?)",
        "request_id": "4f0c2b7a9d1e6f35",
    },
}

_OF_ALL = {
    "401": "No token, or one that is not known",
    "403": "The token has not the role, or may not use the list",
    "422": "The request is not as it is described here",
    "429": "Too many requests, jobs or bytes of this token, or bad tokens from this address",
    "503": "Redis does not answer, or refuses",
}
_WITH_BODY = {
    "408": "The body comes too slowly",
    "413": "The body is too large",
}
_DEFAULTS = {
    "404": "It is not known (any more)",
    "409": "What is there now forbids it",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of an application's routes. It is computed once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        parts = found.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = _PROBLEM
        parts["schemas"]["OpenAIError"] = openai_errors.SCHEMA
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's errors are not used.
            parts["schemas"].pop(name, None)
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in found["paths"].items():
            for operation in methods.values():
                _complete(path, operation)
        app.openapi_schema = found
    return app.openapi_schema


def _complete(path: str, operation: dict[str, Any]) -> None:
    answers: dict[str, Any] = operation["responses"]
    if not path.startswith(("/v1", "/metrics")):
        return
    operation["security"] = [{"token": []}]
    openai = openai_errors.concerns(path)
    common = dict(_OF_ALL)
    if "requestBody" in operation:
        common |= _WITH_BODY
    if "{" in path or operation["tags"] != ["status"]:
        common |= _DEFAULTS
    if openai:  # OpenAI's clients repeat a 409 by themselves, and do not know 422.
        common = {code: what for code, what in common.items() if code not in ("409", "422")}
        answers.pop("422", None)
        common["400"] = "The request is not as it is described here"
    for code, description in common.items():
        answers.setdefault(code, {"description": description})
    for code, answer in answers.items():
        if code >= "400":
            if not answer.get("description"):
                answer["description"] = common.get(code, "It failed")
            name, kind = ("OpenAIError", "application/json") if openai else ("Problem", MEDIA_TYPE)
            answer["content"] = {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    operation["responses"] = dict(sorted(answers.items()))


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema with all references replaced. OpenAPI resolves references from the root
    of its document, but the model's definitions are not there.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(value: Any) -> Any:
        if isinstance(value, list):
            return [inlined(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return inlined(definitions[value["$ref"].rpartition("/")[2]])
        return {name: inlined(one) for name, one in value.items()}

    found: dict[str, Any] = inlined(schema)
    return found
